# Shuffled epochs by a generator function, other names, an explicit list.
# %% training
def fit(generator, critic, images, rounds, play_round, batch_size=64, learning_rate=1e-4):
    def adam(network):
        return torch.optim.Adam([{"params": list(network.parameters())}], learning_rate, (0.0, 0.9))

    def shuffled():
        while True:
            order = torch.randperm(len(images))
            for start in range(0, len(order) - batch_size + 1, batch_size):
                yield images[order[start : start + batch_size]]

    opt_g, opt_d, stream = adam(generator), adam(critic), shuffled()
    losses = []
    for _ in range(rounds):
        losses.append(play_round(opt_g, opt_d, lambda: next(stream), lambda: torch.empty(batch_size, 64).normal_()))
    return losses
