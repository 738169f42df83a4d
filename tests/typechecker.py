"""The run-time type checker of the test run: beartype, with an int accepted where a float is asked for."""

import beartype

check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
