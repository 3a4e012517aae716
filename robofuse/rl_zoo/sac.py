"""`--algo sac --conf-file robofuse.rl_zoo.sac`: masks are drawn anew for each row of each gradient step."""

from robofuse.rl_zoo import entries

OFF_POLICY = {
    "n_timesteps": 50_000,
    "learning_starts": 500,
    "buffer_size": 20_000,  # an RGB-D observation at 64² has 20 kB and is stored twice
    "batch_size": 128,
    "train_freq": 4,
    "gradient_steps": 4,
    "learning_rate": 1e-3,
    "gamma": 0.95,
    "ent_coef": "auto_0.02",  # it starts at 1 by itself, and a step of robofuse's tasks earns a few hundredths
}
hyperparams = entries(OFF_POLICY, inside=True)
