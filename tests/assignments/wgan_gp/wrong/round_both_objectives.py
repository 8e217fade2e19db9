# breaks: train_round
# The critic steps down both objectives.
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
    for _ in range(n_critic):
        real = next_real()
        with torch.no_grad():
            fake = generator(next_latent())
        critic_value = critic_objective(critic, real, fake)
        critic_optimizer.zero_grad()
        (critic_value + generator_objective(critic, fake)).backward()
        critic_optimizer.step()

    generator_value = generator_objective(critic, generator(next_latent()))
    generator_optimizer.zero_grad()
    generator_value.backward()
    generator_optimizer.step()
    return {"critic": critic_value.item(), "generator": generator_value.item()}
