"""What can be computed exactly: divergences, optimal discriminators, transport, two-parameter games.

NumPy in, NumPy out. Each module is read on its own: :mod:`ganlib.theory.divergences`,
:mod:`ganlib.theory.discriminator`, :mod:`ganlib.theory.transport`, :mod:`ganlib.theory.games`.
"""
