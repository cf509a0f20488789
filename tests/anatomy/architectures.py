"""Every architecture with its answers, by name."""

from nets_attention import ATTENDING
from nets_images import SEEING
from nets_plain import PLAIN
from nets_recurrent import RECURRENT
from nets_residual import RESIDUALS

ARCHITECTURES = {**PLAIN, **SEEING, **RESIDUALS, **ATTENDING, **RECURRENT}
