"""The vocabulary: trees, keys, the state, and what a feature is. Imports nothing of this library."""

from funcbio.base._numbers import at_least as at_least
from funcbio.base._numbers import clamp as clamp
from funcbio.base._slips import by_nearness as by_nearness
from funcbio.base._slips import check_option as check_option
from funcbio.base._slips import is_among as is_among
from funcbio.base._slips import nearest as nearest
from funcbio.base._slips import perhaps as perhaps
from funcbio.base._state import KEPT as KEPT
from funcbio.base._state import BioState as BioState
from funcbio.base._trees import leaf_names as leaf_names
from funcbio.base._trees import leaves_as as leaves_as
from funcbio.base._trees import same_structure as same_structure
from funcbio.base._trees import tree_as as tree_as
from funcbio.base._types import Feature as Feature
from funcbio.base._types import Key as Key
from funcbio.base._types import Number as Number
from funcbio.base._types import Tree as Tree
from funcbio.base._warnings import DaleWarning as DaleWarning
from funcbio.base._warnings import IdleWarning as IdleWarning
from funcbio.base._words import brief as brief
from funcbio.base._words import kind_of as kind_of
from funcbio.base._words import listed as listed
from funcbio.base._words import shown as shown
