# A DataLoader with shuffling, restarted when it runs out; AMSGrad left off.
# %% training
from torch.utils.data import DataLoader


def fit(generator, critic, images, rounds, play_round, batch_size=64, learning_rate=1e-4):
    loader = DataLoader(images, batch_size=batch_size, shuffle=True, drop_last=True)
    state = {"batches": iter(loader)}

    def next_real():
        try:
            return next(state["batches"])
        except StopIteration:
            state["batches"] = iter(loader)
            return next(state["batches"])

    optimizers = [
        torch.optim.Adam(network.parameters(), lr=learning_rate, betas=(0.0, 0.9))
        for network in (generator, critic)
    ]
    generator.train()
    critic.train()
    history = []
    for _ in range(rounds):
        history += [play_round(*optimizers, next_real, lambda: torch.randn((batch_size, LATENT)))]
    return history
