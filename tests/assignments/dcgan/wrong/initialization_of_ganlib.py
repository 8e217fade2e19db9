# breaks: initialization
# ganlib's function.
# %% initialization
from ganlib.models.dcgan import initialize_
