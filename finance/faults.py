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

WHOLE = 2**53  # from here on a float no longer holds every whole number
FAR = 4e10  # seconds, the year 3237: more is milliseconds, or rubbish

# Patterns mean the same to Python, RE2 and Java: no backslash, no word classes. They are compared with the whole text, since
# `$` lets a line's end through in some.
NUMBER = "^ *[+-]?([0-9]{1,40}[.]?[0-9]{0,40}|[.][0-9]{1,40})([eE][+-]?[0-9]{1,2})? *"
ISO = (
    "^ *([0-9]{4}-[0-9]{2}-[0-9]{2}"
    "([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)? ?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?)?) *"
)
