"""`--algo tqc --conf-file robofuse.rl_zoo.tqc`: as SAC, with quantiles for a critic."""

from robofuse.rl_zoo import entries
from robofuse.rl_zoo.sac import OFF_POLICY

hyperparams = entries(OFF_POLICY, inside=True)
