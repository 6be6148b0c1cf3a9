"""PAMA, its pretraining, and IPCA: chunks, the IHC branch, prompts, kernel masking."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from restain.her2.bag import Bag
from restain.her2.models import pama
from restain.her2.models.ipca import Config
from restain.her2.models.pama_pretraining import Config as PretrainingConfig
from restain.her2.models.pama_pretraining import MaskedAutoencoder

from .slide_models import DIM, make_bag, small_config, small_model

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "her2_bag.py"


@pytest.mark.parametrize("name", ["pama", "ipca"])
def test_chunks_give_what_the_whole_bag_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(name).eval()
    bag = make_bag(100)
    whole = model(bag)
    monkeypatch.setattr(pama, "CHUNK", 7)
    chunked = model(bag)
    assert torch.allclose(chunked.logits, whole.logits, atol=1e-5)
    assert torch.allclose(chunked.attention, whole.attention, atol=1e-6)
    chunked.logits.sum().backward()
    gradient = model.blocks[0].attn.dis_embed.weight.grad.clone()
    model.zero_grad()
    whole.logits.sum().backward()
    assert torch.allclose(gradient, model.blocks[0].attn.dis_embed.weight.grad, atol=1e-5)


def test_the_ihc_teaches_but_never_answers() -> None:
    """Two IHC slides of one H&E: the same logits in training and prediction; another loss."""
    model = small_model("ipca", mask_ratio=0.0)
    one, two = make_bag(40, label=1, ihc=9), make_bag(40, label=1, ihc=9, shift=0.0)
    two = Bag(two.features, two.coords, 256.0, two.ihc + 1, 1)
    model.train()
    first, second = model(one), model(two)
    assert torch.equal(first.logits, second.logits)
    assert not torch.equal(first.extra_loss, second.extra_loss)
    without = model(Bag(one.features, one.coords, 256.0, None, 1))
    assert torch.allclose(first.logits, without.logits, atol=1e-6)
    assert without.extra_loss is None
    model.eval()
    assert torch.equal(model(one).logits, model(two).logits)
    assert model(one).extra_loss is None


def test_both_class_tokens_are_learned_from_with_equal_weight() -> None:
    model = small_model("ipca").train()
    bag = make_bag(40, label=3, ihc=9)
    output = model(bag)
    target = torch.tensor([3])
    proxy = F.cross_entropy(model.ihc_logits(bag.ihc)[None], target)
    assert torch.allclose(model.loss(output, 3), F.cross_entropy(output.logits[None], target) + proxy)
    model.loss(output, 3).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == []


def test_prompts_stay_at_inference() -> None:
    """Without the prompt term (as the released evaluation) the answer would not change with the prompts."""
    model = small_model("ipca").eval()
    bag = make_bag(40)
    before = model(bag).logits
    with torch.no_grad():
        for block in model.blocks:
            block.kernel_token_i.copy_(torch.randn_like(block.kernel_token_i))
    assert (model(bag).logits - before).abs().max() > 1e-4


def test_kernel_masking_drops_whole_anchors_in_training_only() -> None:
    model = small_model("ipca", mask_ratio=0.75, max_anchors=8, tiles_per_anchor=4)
    seen: list[int] = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[1])))
    bag = make_bag(60)
    model.train()(bag)
    model.eval()(bag)
    assert seen[1] >= 7
    assert seen[0] == round(seen[1] * 0.25)
    torch.manual_seed(0)
    drawn = {tuple(model.kept(8).tolist()) for _ in range(30)}
    assert len(drawn) > 5, "chosen by chance"
    assert len(model.kept(1)) == 1, "one anchor always stays"
    full = small_model("ipca", mask_ratio=0.0)
    assert full.kept(8).tolist() == list(range(8))


def test_without_proxy_has_prompts_but_no_ihc_branch() -> None:
    model = small_model("ipca_without_proxy")
    keys = model.state_dict().keys()
    assert any("kernel_token_i" in key for key in keys)
    assert not any(
        part in key for key in keys for part in ("patch_embed_i", "cls_token_i", "qkv_i2", "mlp_i", "head_i")
    )
    model.train()
    output = model(make_bag(40, label=1, ihc=9))
    assert output.extra_loss is None
    model.loss(output, 1).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_paper_defaults() -> None:
    config = Config()
    assert (config.prompts, config.mask_ratio) == (256, 0.75)
    encoder = {one.name for one in fields(pama.Config)}
    assert {name: getattr(config, name) for name in encoder} == {name: getattr(pama.Config(), name) for name in encoder}


def correlated(seed: int) -> Bag:
    """A slide with a colour of its own and patterns that run over its tiles."""
    chance = torch.Generator().manual_seed(seed)
    side = torch.arange(10.0)
    rows, columns = (axis.flatten() for axis in torch.meshgrid(side, side, indexing="ij"))
    waves = torch.stack([torch.sin(0.3 * rows), torch.cos(0.3 * columns)], 1) @ torch.randn(2, DIM, generator=chance)
    noise = 0.1 * torch.randn(100, DIM, generator=chance)
    features = 2 + torch.randn(DIM, generator=chance) + waves + noise
    return Bag(features, torch.stack([columns, rows], 1) * 256, 256.0)


def test_pretraining_reconstructs_held_out_slides_better_than_the_mean_feature() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(small_config(PretrainingConfig, width=32, decoder_width=32), DIM)
    train, held = [correlated(seed) for seed in range(40)], [correlated(seed) for seed in range(100, 110)]
    mean = torch.cat([bag.features for bag in train]).mean(0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(10):
        for bag in train:
            optimizer.zero_grad()
            model(bag).loss.backward()
            optimizer.step()
    model.eval()
    ours = theirs = 0.0
    with torch.no_grad():
        for bag in held:
            made = model(bag)
            target = bag.features[made.hidden]
            assert made.features.shape == target.shape == (75, DIM)
            assert float(made.loss) == pytest.approx(float(F.mse_loss(made.features, target)))
            ours, theirs = ours + float(made.loss), theirs + float(F.mse_loss(mean.expand_as(target), target))
    assert ours < 0.85 * theirs, (ours, theirs)


def test_hidden_tiles_do_not_leak_into_their_reconstruction() -> None:
    model = MaskedAutoencoder(small_config(PretrainingConfig), DIM).eval()
    bag = make_bag(40)
    ordered, _ = bag.sorted()
    torch.manual_seed(3)
    made = model(ordered)
    changed = ordered.features.clone()
    changed[made.hidden] += 5
    torch.manual_seed(3)
    again = model(Bag(changed, ordered.coords, 256.0))
    assert torch.equal(again.hidden, made.hidden)
    assert torch.equal(again.features, made.features)


@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_pretraining_reads_the_smallest_bags(tiles: int) -> None:
    model = MaskedAutoencoder(small_config(PretrainingConfig), DIM).train()
    made = model(make_bag(tiles))
    made.loss.backward()
    assert made.loss.isfinite()
    assert len(made.hidden) == tiles - max(1, round(tiles * 0.25))


@pytest.mark.parametrize("name", ["pama", "ipca", "ipca_without_proxy"])
def test_pretrained_encoders_are_taken_over(name: str) -> None:
    pretrained = MaskedAutoencoder(small_config(PretrainingConfig), DIM).encoder_state()
    model = small_model(name)
    loaded = model.load_pretrained(pretrained)
    assert set(loaded.taken) == set(pretrained)
    assert not loaded.other_shape
    assert not loaded.unused
    assert "head.weight" in loaded.missing
    assert torch.equal(model.state_dict()["blocks.1.attn.qkv.weight"], pretrained["blocks.1.attn.qkv.weight"])
    assert "tensors taken" in str(loaded)


def test_pretrained_tensors_of_another_shape_are_named() -> None:
    pretrained = MaskedAutoencoder(small_config(PretrainingConfig), 7).encoder_state()
    loaded = small_model("pama").load_pretrained(pretrained)
    assert loaded.other_shape == [f"patch_embed.weight [16, 7] instead of [16, {DIM}]"]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_grows_with_the_tokens_not_with_tokens_times_anchors() -> None:
    """The scores of 30,000 tiles against 128 anchors in 8 heads alone would take 0.98 GB, and biases as much again."""
    code = (
        "import sys, psutil, torch; sys.path.insert(0, sys.argv[1]); import her2_bag\n"
        "from restain.her2.models.ipca import IPCA, Config\n"
        "torch.set_num_threads(1)\n"
        "model, bag = IPCA(Config(width=64, depth=1, prompts=16), 16, 4).eval(), her2_bag.bag(30_000, 16)\n"
        "with torch.no_grad(): model(her2_bag.bag(300, 16))\n"  # what is imported at first use is not of the bag
        "before = psutil.Process().memory_info().rss\n"
        "with torch.no_grad(): model(bag)\n"
        # Not ru_maxrss, which a process inherits from the one that started it.
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(int(peak.split()[1]) * 1024 - before)"
    )
    words = [sys.executable, "-c", code, str(BENCHMARK.parent)]
    grown = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert grown < 0.5e9
