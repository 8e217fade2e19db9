# breaks: training
# New optimisers in each round: Adam forgets.
# %% training
def fit(generator, critic, images, rounds, play_round, batch_size=64, learning_rate=1e-4):
    history = []
    for _ in range(rounds):
        generator_optimizer = torch.optim.Adam(generator.parameters(), lr=learning_rate, betas=(0.0, 0.9))
        critic_optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate, betas=(0.0, 0.9))
        losses = play_round(
            generator_optimizer,
            critic_optimizer,
            lambda: images[torch.randint(len(images), (batch_size,))],
            lambda: torch.randn(batch_size, LATENT),
        )
        history.append(losses)
    return history
