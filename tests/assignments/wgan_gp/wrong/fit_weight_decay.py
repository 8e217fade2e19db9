# breaks: training
# With weight decay.
# %% training
def fit(generator, critic, images, rounds, play_round, batch_size=64, learning_rate=1e-4):
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=learning_rate, betas=(0.0, 0.9), weight_decay=1e-4)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate, betas=(0.0, 0.9), weight_decay=1e-4)

    def next_real():
        return images[torch.randint(len(images), (batch_size,))]

    def next_latent():
        return torch.randn(batch_size, LATENT)

    return [play_round(generator_optimizer, critic_optimizer, next_real, next_latent) for _ in range(rounds)]
