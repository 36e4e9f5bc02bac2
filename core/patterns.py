"""What a table's cells may look like, said so that pandas and every engine read them alike."""

from __future__ import annotations

DAY = 86_400  # seconds
WHOLE = 2**53  # from here on a float no longer holds every whole number
FAR = 4e10  # seconds, the year 3237: more is milliseconds, or rubbish

# Patterns mean the same to Python, RE2 and Java: no backslash, no word classes. They are compared with the whole text, since
# `$` lets a line's end through in some.
NUMBER = "^ *[+-]?([0-9]{1,40}[.]?[0-9]{0,40}|[.][0-9]{1,40})([eE][+-]?[0-9]{1,2})? *"
ISO = (
    "^ *([0-9]{4}-[0-9]{2}-[0-9]{2}"
    "([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)? ?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?)?) *"
)
