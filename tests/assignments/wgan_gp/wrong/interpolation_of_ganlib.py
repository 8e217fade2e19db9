# breaks: interpolation
# ganlib's function under the same name: its points are no leaves.
# %% interpolation
from ganlib.losses import interpolate
