# breaks: critic
# The cell does not compile.
# %% critic
def build_critic(width=32)
    return nn.Sequential(nn.Conv2d(1, width, 4), nn.Flatten(0))
