"""The options of a training by group, frozen."""

from dataclasses import dataclass
from typing import Literal

from robofuse.sensors import MODALITIES


@dataclass(frozen=True)
class Scenes:
    """Worlds and what is sensed in them.

    Attributes:
        worlds: Simulations side by side.
        renderer: Of the pictures: auto takes gl if it works here, else warp.
        image_size: Pixels a side.
        cameras: Cameras, as in `robofuse list`.
        sensors: Out of rgb, depth, proprio and force; or truth, for a teacher.
        force_window: Readings of the force sensor in one observation.
    """

    num_envs: int = 64
    renderer: Literal["auto", "gl", "warp"] = "auto"
    image_size: int = 64
    cameras: tuple[str, ...] = ("scene",)
    sensors: tuple[str, ...] = MODALITIES
    force_window: int = 10


@dataclass(frozen=True)
class Hiding:
    """Sensors hidden on purpose, so that the policy learns to do without.

    Attributes:
        dropout: Law: independent, each sensor for itself; subsets, all sets of live sensors equally likely; groups, the
            colour and depth of a camera together; rates, as given by --rates; markov, outages that begin and end.
        p: Probability of hiding a sensor (markov: share of the time in which one is missing).
        rates: For rates: probability by sensor, such as rgb=0.1 depth=0.3.
        full: Share of the episodes in which nothing is hidden.
        every: How long a draw lasts; by default an episode (markov: a step).
        outage_steps: Mean length of an outage in control steps, for markov and --every outage.
        schedule: Strength in the course of training: constant, or from 0 to full strength.
        warmup: Share of the training after which the strength begins to rise.
        until: Share of the training after which it is full.
        faults: Other faults to train on: plans such as rgb:freeze@15, or YAML files, of which an episode has one;
            standard for most faults of every sensor at four severities (held out: robofuse.faults.mix.HELD_OUT).
        fault_share: Share of the episodes that have one.
    """

    dropout: Literal["independent", "subsets", "groups", "rates", "markov", "none"] = "independent"
    p: float = 0.3
    rates: tuple[str, ...] = ()
    full: float = 0.3
    every: Literal["episode", "outage", "step"] | None = None
    outage_steps: float = 20.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = 0.0
    until: float = 1.0
    faults: tuple[str, ...] = ()
    fault_share: float = 0.3


@dataclass(frozen=True)
class Network:
    """The network.

    Attributes:
        fusion: How tokens become features: concat, sum, attention, gated, product_of_experts; or one of yours.
        encoders: In place of the standard encoders, by sensor or kind of sensor, yours, such as rgb=thumbnail.
        token_dim: Width of a sensor's token.
        masked_as: What is read of a hidden sensor: its learned token, or zeros, the usual baseline, in which nothing
            tells that it is hidden.
        mixed_precision: Encode pictures in bfloat16, for GPUs.
        memory: What helps when a sensor dies in the middle: none; stack, the last --frames readings that each sensor
            delivered, however long ago; recurrent, a unit that learns what to remember.
        frames: For stack: readings of each sensor; 1 holds the last one.
        memory_size: For recurrent: numbers that it remembers.
        hidden: Widths of the hidden layers of actor and critic.
        log_std_init: Logarithm of the first standard deviation of actions; with a teacher little needs to be tried out.
    """

    fusion: str = "concat"
    encoders: tuple[str, ...] = ()
    token_dim: int = 64
    masked_as: Literal["token", "zeros"] = "token"
    mixed_precision: bool = False
    memory: Literal["none", "stack", "recurrent"] = "none"
    frames: int = 2
    memory_size: int = 128
    hidden: tuple[int, ...] = (128,)
    log_std_init: float = -1.2


@dataclass(frozen=True)
class Learning:
    """PPO and the auxiliary loss.

    Attributes:
        lr: Learning rate of Adam at the start.
        lr_schedule: constant, or linear down to --lr-final.
        lr_final: Share of the learning rate that is left at the end.
        clip: PPO's clip range at the start.
        clip_final: Share of it that is left at the end, falling linearly.
        n_steps: Control steps of each world between updates.
        batch_size: Rows of a minibatch.
        epochs: Passes over a rollout.
        gamma: Discount.
        gae_lambda: λ of generalised advantage estimation.
        ent_coef: Weight of the entropy at the start.
        ent_final: Share of it that is left at the end, falling linearly.
        aux_coef: Weight of the loss on what tokens tell of the simulator's truth.
        teacher: A policy that knows the truth and says what to do in the states that ours comes to: auto trains one
            first (in the folder `teacher` of the run), none does without, or a policy file or run folder.
        teacher_steps: Control steps of the training of a teacher of its own.
        teacher_coef: Weight of the squared difference to the teacher's action, at the start.
        teacher_until: Share of the training after which that weight, falling linearly, is 0.
        vf_coef: Weight of the value loss.
        max_grad_norm: Gradients are clipped to this norm.
        target_kl: Stop an update early beyond 1.5 of this divergence.
    """

    lr: float = 7e-4
    lr_schedule: Literal["constant", "linear"] = "linear"
    lr_final: float = 0.05
    clip: float = 0.2
    clip_final: float = 1.0
    n_steps: int = 25
    batch_size: int = 400
    epochs: int = 3
    gamma: float = 0.96
    gae_lambda: float = 0.95
    ent_coef: float = 0.002
    ent_final: float = 0.1
    aux_coef: float = 2.0
    teacher: str = "auto"
    teacher_steps: int = 600_000
    teacher_coef: float = 3.0
    teacher_until: float = 0.6
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None


@dataclass(frozen=True)
class Imitation:
    """Demonstrations to begin with.

    Attributes:
        demos: Folder of demonstrations (`robofuse record`) that the policy copies before PPO begins, with sensors
            hidden as in the training; none does without.
        demo_epochs: Passes over the demonstrations.
    """

    demos: str = "none"
    demo_epochs: int = 40


@dataclass(frozen=True)
class Records:
    """What is written while it trains.

    Attributes:
        validate_every: Steps between validations, on scenes that are never trained on; 0 for none. Changes nothing in
            what is learned.
        validation_episodes: Episodes of each condition: all sensors, each one removed, each one alone.
        checkpoint_every: Steps between checkpoints. All worlds start a new episode there, so it is part of what
            makes a run repeatable.
    """

    validate_every: int = 100_000
    validation_episodes: int = 32
    checkpoint_every: int = 100_000
