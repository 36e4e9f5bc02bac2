"""Why a row is set aside: the same words whichever engine finds it. A row has one fault, the first of this list."""

from __future__ import annotations

RAGGED = "row has more or fewer fields than the header"
MISSING = "{role} is missing"  # entity, id
FRACTION = "{role} is a fraction"  # a name given as a number that is not whole, or is beyond 2^53
LONG = "text is longer than {limit} characters"
NO_TIME = "time is missing or unreadable"
NO_ZONE = "time has no zone, while others of the column do"
FUTURE = "time lies in the future"
NO_AMOUNT = "amount is not a finite number"
NO_NUMBER = "number is infinite or unreadable"
NO_LABEL = "label is neither 0 nor 1"
NO_LABEL_TIME = "label time is unreadable"
EARLY_LABEL = "label time is before the transaction"
REPEATED = "id occurs twice; the first is kept"
CROWDED = "entity has more than {limit} transactions"
