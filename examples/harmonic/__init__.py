"""A tiny free energy campaign whose answers are known.

The "ligands" are particles in one-dimensional harmonic wells; the environments are vacuum and a solvent, which adds a spring of
its own. Energies are in kT, lengths in nm. Turning well A into well B costs ``0.5 ln(kB/kA)``, so every estimate can be held
against the truth.
"""
