"""Checks of trees, numbers and keys, before anything is computed and without values of tensors.

So they cost nothing in vmap or a compiled graph, and the features stay pure.
"""

from funcbio._checks._arguments import check_compile as check_compile
from funcbio._checks._arguments import is_listing as is_listing
from funcbio._checks._arguments import names_arguments as names_arguments
from funcbio._checks._arguments import order_hint as order_hint
from funcbio._checks._arguments import require as require
from funcbio._checks._arguments import require_module as require_module
from funcbio._checks._arguments import require_path as require_path
from funcbio._checks._features import CONTRACT as CONTRACT
from funcbio._checks._features import PRESETS as PRESETS
from funcbio._checks._features import is_feature as is_feature
from funcbio._checks._features import is_torchs as is_torchs
from funcbio._checks._features import preset_hint as preset_hint
from funcbio._checks._limits import BELOW_ONE as BELOW_ONE
from funcbio._checks._limits import COUNT as COUNT
from funcbio._checks._limits import COUNT_OR_NONE as COUNT_OR_NONE
from funcbio._checks._limits import FRACTION as FRACTION
from funcbio._checks._limits import FRACTION_OR_ONE as FRACTION_OR_ONE
from funcbio._checks._limits import INTEGER as INTEGER
from funcbio._checks._limits import LARGEST as LARGEST
from funcbio._checks._limits import NOT_NEGATIVE as NOT_NEGATIVE
from funcbio._checks._limits import POSITIVE as POSITIVE
from funcbio._checks._limits import SHARE as SHARE
from funcbio._checks._limits import Limit as Limit
from funcbio._checks._limits import is_within as is_within
from funcbio._checks._limits import large_hint as large_hint
from funcbio._checks._numbers import is_count as is_count
from funcbio._checks._numbers import is_number as is_number
from funcbio._checks._numbers import plain_integer as plain_integer
from funcbio._checks._numbers import plain_number as plain_number
from funcbio._checks._numbers import require_numbers as require_numbers
from funcbio._checks._numbers import require_order as require_order
from funcbio._checks._numbers import require_within as require_within
from funcbio._checks._tensors import FLOATING as FLOATING
from funcbio._checks._tensors import is_real as is_real
from funcbio._checks._tensors import require_dtype as require_dtype
from funcbio._checks._tensors import require_key as require_key
from funcbio._checks._trees import require_like as require_like
from funcbio._checks._trees import require_result as require_result
from funcbio._checks._words import outside as outside
from funcbio._checks._words import settings as settings
from funcbio._checks._words import unlike_default as unlike_default
from funcbio.base import brief as brief
from funcbio.base import is_among as is_among
from funcbio.base import kind_of as kind_of
from funcbio.base import nearest as nearest
from funcbio.base import perhaps as perhaps
from funcbio.base import shown as shown
