"""The studies that come along, by name."""

from robofuse.study.declare import Study

_FIVE = (0, 1, 2, 3, 4)
_CLONE = {"robot": "gripper", "remask": 0, "aux_coef": 0.0}  # nothing against a missing sensor but dropout
_FUSIONS = ("concat", "sum", "attention", "gated", "product_of_experts", "film")
_HEADS = {"aux_coef": 2.0}
_SHIPPED = {"encoders": ["rgb=transformer", "depth=transformer"], "pretrained": "shipped"}
_U2A = {**_SHIPPED, "masked_as": "estimate", "fusion": "sum_all", "regularisers": ["alignment=0.2"]}
_RATES = (0, 20, 40, 60, 80, 100)
_AGGRESSIVE = {
    "specialist": {"specialist": True},
    **{f"{rate} %": {"supporting": rate / 100} for rate in _RATES},
}

_ALL = (
    Study(
        name="dropout",
        title="Laws of sensor dropout",
        question="How often, and which sensors together, should be masked in training?",
        trial="clone",
        base={**_CLONE, **_HEADS, "full": 0.0},
        methods={
            "none": {"dropout": "none"},
            **{f"independent {p} %": {"p": p / 100} for p in (10, 30, 50, 70)},
            "30 %, zeros": {"p": 0.3, "masked_as": "zeros"},
            "30 %, zeros and flag": {"p": 0.3, "masked_as": "flag"},
            "30 %, a third full": {"p": 0.3, "full": 0.33},
            "30 %, every step": {"p": 0.3, "every": "step"},
            "outages (Markov)": {"dropout": "markov", "p": 0.3},
            "subsets": {"dropout": "subsets"},
            "cameras together": {"dropout": "groups", "p": 0.3},
            "one of four, half the time": {"dropout": "one", "p": 0.5},
            "30 %, per batch": {"p": 0.3, "shared": True},
            "30 %, encoders see all": {"p": 0.3, "encode_masked": True},
            "numbers of tokens, 30 %": {"dropout": "none", "token_dropout": ["standard=0.3"]},
            "a number of all tokens, 30 %": {"dropout": "none", "token_dropout": ["feature=0.3"]},
            "attention": {"dropout": "none", "fusion": "attention"},
            "attention, weights 30 %": {"dropout": "none", "fusion": "attention", "token_dropout": ["attention=0.3"]},
        },
        score="success/worst",
        baseline="none",
        lower_is_better=("action", "offset", "seconds"),
    ),
    Study(
        name="collapse",
        title="Losses against leaning on one sensor",
        question="Which loss beside dropout keeps a policy from leaning on one sensor?",
        trial="clone",
        base=_CLONE,
        methods={
            "dropout": {},
            "no dropout": {"dropout": "none"},
            "truth heads": _HEADS,
            "contrastive": {"regularisers": ["contrastive=0.1"]},
            "reconstruction": {"regularisers": ["reconstruction=1"]},
            "consistency": {"regularisers": ["consistency=0.3"]},
            "re-masking": {"remask": 2},
            "balanced masks": {"balance": True},
            "heads, weights": {**_HEADS, "sensor_weights": ["force=3", "proprio=3"]},
            "heads, OGM": {**_HEADS, "modulation": 0.3},
            "heads, blending": {**_HEADS, "blending": 4},
            "heads, re-masking": {**_HEADS, "remask": 2},
            "heads, re-masking, contrastive": {**_HEADS, "remask": 2, "regularisers": ["contrastive=0.1"]},
        },
        score="success/worst",
        lower_is_better=("action", "offset", "seconds"),
    ),
    Study(
        name="fusion",
        title="Ways to fuse tokens",
        question="Which fusion holds when a sensor is missing?",
        trial="clone",
        base={**_CLONE, **_HEADS, "remask": 2},
        methods={
            **{
                name: {"fusion": name} for name in ("concat", "sum", "attention", "gated", "product_of_experts", "film")
            },
            "late": {"fusion": "late", "hidden": []},
            "late, calibrated": {"fusion": "late", "hidden": [], "calibrate": True},
            "perceiver": {
                "fusion": "perceiver",
                "token_dim": 128,  # of 2×2 places at 32²
                "encoders": [f"{kind}=patches" for kind in ("rgb", "depth", "vector", "window")],
            },
        },
        score="success/worst",
        lower_is_better=("action", "offset", "seconds"),
    ),
    Study(
        name="u2a",
        title="Estimates of the missing token (U2A)",
        question="Does a token estimated from the other camera lose less than a mask token, and what do adapters cost?",
        trial="clone",
        base={
            **_CLONE,
            **_HEADS,
            "sensors": ["rgb", "depth"],
            "episodes": 300,
            "demo_epochs": 8,
            "batch_size": 128,
            "dropout": "one",
            "p": 0.5,
            "token_dim": 96,
        },
        methods={
            "convolutions, mask tokens": {},
            "full, mask tokens": {**_SHIPPED, "adapt": "full"},
            "LoRA, mask tokens": {**_SHIPPED, "adapt": "lora"},
            "LoRA, estimates, aligned": {**_U2A, "adapt": "lora"},
            "LoRA, estimates": {**_U2A, "adapt": "lora", "regularisers": []},
            "full, estimates, aligned": {**_U2A, "adapt": "full"},
            "frozen, estimates, aligned": {**_U2A, "adapt": "frozen"},
            "LoRA, estimates, aligned, from nothing lost": {**_U2A, "adapt": "lora", "dropout": "none"},
        },
        score="success/worst",
        baseline="LoRA, mask tokens",
        lower_is_better=("action", "offset", "estimate", "seconds"),
    ),
    Study(
        name="colearning",
        title="Co-learning gain of aggressive dropout",
        question="How often must supporting sensors be dropped so that having had them helps the one that is left?",
        trial="sequence",
        base={"robot": "gripper"},
        methods=_AGGRESSIVE,
        tasks={f"{target} alone": {"target": target} for target in ("rgb", "depth", "proprio", "force")},
        budgets={name: {"network": name} for name in ("early-fusion", "memory-fusion", "mask-tokens")},
        seeds=_FIVE,
        score="explained/target",
        baseline="specialist",
    ),
    Study(
        name="colearning-policy",
        title="Co-learning gain of a policy",
        question="Does a policy that had other sensors in training grasp better with one camera than a specialist?",
        trial="clone",
        base={**_CLONE, **_HEADS},
        methods=_AGGRESSIVE,
        tasks={f"{target} alone": {"target": target} for target in ("rgb", "depth")},
        score="success/target",
        baseline="specialist",
        lower_is_better=("action", "offset", "seconds"),
    ),
    Study(
        name="ppo",
        title="What holds under PPO",
        question="Do the rows that are best in cloning also help a policy that PPO trains, on two tasks?",
        trial="train",
        base={"preset": "quick"},
        methods={
            "dropout": {"remask": 0, "aux_coef": 0.0},
            "no dropout": {"dropout": "none", "remask": 0, "aux_coef": 0.0},
            "truth heads": {"remask": 0},
            "re-masking": {"aux_coef": 0.0},
            "heads, re-masking": {},
        },
        tasks={"Grasp": {}, "Reach": {"task": "Reach", "steps": 40_000}},
        score="success/worst",
        lower_is_better=("seconds", "steps"),
    ),
    Study(
        name="example",
        title="Dropout of sensors in least squares",
        question="Does masking sensors at random make a linear estimate better where one of them is missing?",
        trial="example",
        methods={"no dropout": {}, "10 %": {"dropout": 0.1}, "30 %": {"dropout": 0.3}, "50 %": {"dropout": 0.5}},
        score="error/-camera",
        space={"dropout": ("float", 0.0, 0.9, False)},
    ),
)
STUDIES = {study.name: study for study in _ALL}
