# torch.autograd.grad in place of backward; the graph through the generator is kept in the critic's turn (slow, not wrong).
# %% train_round
def train_round(
    generator,
    critic,
    generator_optimizer,
    critic_optimizer,
    next_real,
    next_latent,
    critic_objective,
    generator_objective,
    n_critic,
):
    def descend(network, optimizer, loss):
        for parameter, gradient in zip(
            network.parameters(), torch.autograd.grad(loss, list(network.parameters()), allow_unused=True), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
        return loss.item()

    values = {}
    for _ in range(n_critic):
        values["critic"] = descend(
            critic, critic_optimizer, critic_objective(critic, next_real(), generator(next_latent()))
        )
    values["generator"] = descend(
        generator, generator_optimizer, generator_objective(critic, generator(next_latent()))
    )
    return values
