"""A tiny free energy campaign whose answers are known.

The "ligands" are particles in one-dimensional harmonic wells. The environments are vacuum and a
solvent that adds another spring. Energies are in kT, lengths in nm. The free energy of transforming
well A into well B is ``0.5 ln(kB/kA)``, so every estimate can be compared with the exact value.
"""
