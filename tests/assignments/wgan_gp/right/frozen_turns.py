# Freezes whoever does not play and thaws both; draws all batches of the critic's turn beforehand.
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
    reals = [next_real() for _ in range(n_critic)]
    latents = [next_latent() for _ in range(n_critic)]
    generator.requires_grad_(False)
    for real, latent in zip(reals, latents, strict=True):
        critic_optimizer.zero_grad(set_to_none=False)
        loss = critic_objective(critic, real, generator(latent))
        loss.backward()
        critic_optimizer.step()
    generator.requires_grad_(True)
    critic.requires_grad_(False)
    generator_optimizer.zero_grad()
    price = generator_objective(critic, generator(next_latent()))
    price.backward()
    generator_optimizer.step()
    critic.requires_grad_(True)
    return dict(critic=float(loss), generator=float(price))
