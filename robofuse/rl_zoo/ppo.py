"""`--algo ppo --conf-file robofuse.rl_zoo.ppo`: masks from the environment, so the update sees what the action saw."""

from robofuse.rl_zoo import entries

hyperparams = entries(
    {
        "n_envs": 8,
        "n_timesteps": 100_000,
        "n_steps": 64,
        "batch_size": 128,
        "n_epochs": 5,
        "learning_rate": 1e-3,
        "gamma": 0.95,
        "policy_kwargs": {"log_std_init": -0.5},
    },
    inside=False,
)
