"""Every invoice derived once more, from the chain alone, and compared with what is stored.

`coin_audit` looks at one coin through its driver, `chain_reading` reads what was paid,
`plain_rules` says what follows from it: sums over outputs, depths and header times, written apart
from `actors.core` so that a mistake there is not repeated here.
"""
