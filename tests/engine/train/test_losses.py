import pytest
import torch

from engine.diffusion.schedule import noised, velocity, x0_from_velocity
from engine.train.losses import distribution_matching_loss, flow_matching_loss, laplacian


def test_the_laplacian_of_a_steady_motion_is_nothing() -> None:
    steady = torch.arange(5.0).view(1, 5, 1, 1, 1) * 3 + 1
    assert torch.equal(laplacian(steady), torch.zeros(1, 3, 1, 1, 1))
    bent = steady.square()
    torch.testing.assert_close(laplacian(bent), torch.full((1, 3, 1, 1, 1), 2 * 9.0))


def test_the_loss_is_the_formula_term_by_term() -> None:
    torch.manual_seed(0)
    made, wanted = torch.randn(3, 5, 2, 4, 4), torch.randn(3, 5, 2, 4, 4)
    expected = 0.0
    for sample in range(3):
        error = made[sample] - wanted[sample]
        bend = torch.stack([error[i - 1] - 2 * error[i] + error[i + 1] for i in range(1, 4)])
        expected += (0.7 * error.pow(2).mean() + 0.3 * bend.pow(2).mean()) / 3
    torch.testing.assert_close(
        flow_matching_loss(made, wanted, 0.3, torch.ones(3)), torch.as_tensor(expected)
    )


def test_clips_too_short_to_bend_have_no_motion_term() -> None:
    made, wanted = torch.randn(1, 2, 1, 2, 2), torch.zeros(1, 2, 1, 2, 2)
    assert flow_matching_loss(made, wanted, 0.5, torch.ones(1)) == pytest.approx(float(made.square().mean()))


def test_weighted_by_the_square_of_its_level_the_loss_is_that_of_the_clean_picture() -> None:
    torch.manual_seed(1)
    x0, noise, sigma = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2), torch.tensor([0.2, 0.9])
    made = torch.randn_like(x0)
    level = sigma.view(2, 1, 1, 1, 1)
    clean = x0_from_velocity(noised(x0, noise, level), made, level)
    loss = flow_matching_loss(made, velocity(x0, noise), 0.0, sigma.square())
    torch.testing.assert_close(loss, (clean - x0).square().mean())


def test_distribution_matching_is_the_formula_element_by_element() -> None:
    torch.manual_seed(2)
    x0, fake, real = (torch.randn(2, 3, 2, 2, 2) for _ in range(3))
    x0.requires_grad_(True)
    loss = distribution_matching_loss(x0, fake, real)
    loss.backward()
    expected, gradient = 0.0, torch.zeros_like(x0)
    for sample in range(2):
        scale = (x0[sample].detach() - real[sample]).abs().mean()
        gradient[sample] = (fake[sample] - real[sample]) / scale
        expected += 0.5 * float(gradient[sample].square().mean()) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(x0.grad, gradient / x0.numel())


def test_the_pull_of_distribution_matching_does_not_grow_with_the_error() -> None:
    """Normalised by each sample's own error: ten times as far off, the same gradient."""
    torch.manual_seed(3)
    x0 = torch.randn(2, 3, 2, 2, 2)
    far = torch.tensor([1.0, 10.0]).view(2, 1, 1, 1, 1)
    towards = torch.randn(1, 3, 2, 2, 2)
    x0 = x0[:1].repeat(2, 1, 1, 1, 1).requires_grad_(True)
    distribution_matching_loss(x0, x0.detach(), x0.detach() + far * towards).backward()
    assert x0.grad is not None
    torch.testing.assert_close(x0.grad[0], x0.grad[1])


def test_distribution_matching_teaches_the_student_alone_and_rests_where_the_scores_agree() -> None:
    x0, fake, real = (torch.ones(1, 1, 1, 2, 2, requires_grad=True) for _ in range(3))
    distribution_matching_loss(x0, fake, real).backward()
    assert fake.grad is None and real.grad is None
    assert x0.grad is not None and not x0.grad.any()
