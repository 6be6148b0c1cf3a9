"""What every slide model must do."""

from __future__ import annotations

import importlib
import inspect

import pytest
import torch
import yaml

from restain.core.errors import RestainError
from restain.her2.bag import Bag
from restain.her2.base import MODELS, build_model
from restain.her2.models.clam import Config as ClamConfig
from restain.her2.models.transmil import Config as TransMilConfig
from restain.her2.recipes import CONFIGS, load_recipe
from restain.training.run import plain

from .slide_models import CLASSES, DIM, make_bag, shuffled, small_model

NAMES = [entry.name for entry in MODELS]
ORDERED = {"transmil", "nystromformer"}


def test_all_models_of_the_issue_are_there() -> None:
    assert set(NAMES) == {
        "mean_pool", "abmil", "clam_sb", "clam_mb", "nystromformer", "transmil", "slidegraph", "heat", "pama", "ipca",
        "ipca_without_proxy",
    }  # fmt: skip
    assert {entry.name for entry in MODELS if "ihc" in entry.info.needs} == {"ipca"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tiles", [1, 2, 5, 9, 120])
def test_any_number_of_tiles_is_read_and_learned_from(name: str, tiles: int) -> None:
    """One tile; fewer than CLAM's samples, than the anchors, than the landmarks, than HEAT's neighbours."""
    model = small_model(name)
    bag = make_bag(tiles, label=2, ihc=3)
    model.train()
    loss = model.loss(model(bag), 2)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    model.eval()
    with torch.no_grad():
        output = model(bag)
    assert output.logits.shape == (CLASSES,)
    assert output.logits.isfinite().all()
    assert output.extra_loss is None
    assert output.attention is not None
    assert output.attention.shape == (tiles,)
    assert output.attention.min() >= 0
    assert float(output.attention.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_tiles_changes_nothing(name: str) -> None:
    model = small_model(name).eval()
    bag = make_bag(150, seed=3)
    if name in ORDERED:
        assert "order of the tiles" in str(inspect.getmodule(type(model)).__doc__)
        return
    with torch.no_grad():
        expected = model(bag)
        for seed in range(3):
            other, order = shuffled(bag, seed)
            output = model(other)
            assert torch.allclose(output.logits, expected.logits, atol=1e-5, rtol=0)
            assert torch.allclose(output.attention, expected.attention[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(set(NAMES) - ORDERED))
def test_order_of_tiles_changes_nothing_where_places_are_shared(name: str) -> None:
    """Slides of a patient that lie over each other: the coordinates alone give no order."""
    model = small_model(name).eval()
    one = make_bag(80, seed=4)
    bag = Bag(torch.cat([one.features, one.features.flip(0) + 1]), one.coords.repeat(2, 1), 256.0)
    other, _ = shuffled(bag)
    with torch.no_grad():
        assert torch.allclose(model(other).logits, model(bag).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_network(name: str) -> None:
    one, two = (small_model(name).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_learns_what_tells_the_slides_apart(name: str) -> None:
    """Bags of which a third of the tiles is shifted, or not; others are told apart after a few epochs."""
    model = small_model(name, classes=2, dropout=0.0, mask_ratio=0.5)
    bags = [
        make_bag(24 + number, seed=number, label=number % 2, ihc=8, shift=3.0 * (number % 2)) for number in range(16)
    ]
    model.fit(bags)
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(20):
        model.train()
        for bag in bags:
            optimizer.zero_grad()
            model.loss(model(bag), bag.label).backward()
            optimizer.step()
    model.eval()
    right = 0
    with torch.no_grad():
        for number in range(20):
            bag = make_bag(30, seed=100 + number, shift=3.0 * (number % 2))
            right += int(model(bag).logits.argmax()) == number % 2
    assert right >= 17


@pytest.mark.parametrize("name", NAMES)
def test_several_bags_may_go_forward_before_one_backward(name: str) -> None:
    model = small_model(name).train()
    bags = [make_bag(9, seed=number, label=number) for number in range(3)]
    torch.stack([model.loss(model(bag), bag.label) for bag in bags]).mean().backward()


@pytest.mark.parametrize("name", NAMES)
def test_reference_keys_name_every_tensor_once(name: str) -> None:
    model = small_model(name)
    keys = model.reference_keys()
    assert keys.keys() == model.state_dict().keys()
    assert len(set(keys.values())) == len(keys)
    fresh = small_model(name)
    other = {key: (value + 1).to(value.dtype) for key, value in model.state_dict().items()}
    loaded = fresh.load_pretrained({theirs: other[ours] for ours, theirs in keys.items()})
    assert not loaded.missing
    assert not loaded.unused
    assert all(torch.equal(value, other[key]) for key, value in fresh.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_where_its_method_comes_from(name: str) -> None:
    module = importlib.import_module(MODELS[name].item.__module__)
    assert all(word in str(module.__doc__) for word in ("Paper:", "Authors' code:"))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_lists_all_settings(path) -> None:
    document = yaml.safe_load(path.read_text())
    recipe = load_recipe(path.stem)
    assert document["model"] == plain(recipe.model)
    assert document["training"] == plain(recipe.training)


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_of_a_model_is_its_published_settings(name: str) -> None:
    assert load_recipe(name).model == MODELS[name].info.config()


def test_features_of_another_width_are_refused_with_both_numbers() -> None:
    with pytest.raises(RestainError, match="7 wide, the model reads 12"):
        small_model("abmil")(make_bag(5, dim=7))


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(RestainError, match="label 4"):
        small_model("abmil")(make_bag(5, label=4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_refused(value: float) -> None:
    features = torch.zeros(6, DIM)
    features[4, 2] = value
    coords = torch.zeros(6, 2)
    with pytest.raises(RestainError, match=r"case 7: features of the H&E: 1 of 6 tiles .*tile 4"):
        Bag(features, coords, 256.0, name="case 7")
    with pytest.raises(RestainError, match="of the IHC"):
        Bag(torch.zeros(6, DIM), coords, 256.0, ihc=features)


def test_an_empty_bag_and_a_bag_without_places_are_refused() -> None:
    with pytest.raises(RestainError, match="no tiles"):
        Bag(torch.zeros(0, DIM), torch.zeros(0, 2), 256.0)
    with pytest.raises(RestainError, match="3 tiles but coordinates"):
        Bag(torch.zeros(3, DIM), torch.zeros(2, 2), 256.0)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("pama", {"width": 10}, "no multiple of heads"),
        ("transmil", {"width": 10}, "no multiple of heads"),
        ("ipca", {"mask_ratio": 1.0}, "mask_ratio is 1.0"),
        ("clam_sb", {"samples": 0}, "samples is 0"),
        ("nystromformer", {"conv_kernel": 4}, "it is odd"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(name: str, changed: dict[str, float], said: str) -> None:
    with pytest.raises(RestainError, match=said):
        small_model(name, **changed)


def test_unknown_models_and_single_classes_are_refused() -> None:
    with pytest.raises(RestainError, match="clam_sb"):
        build_model("clam_s", 4, 2)
    with pytest.raises(RestainError, match="2 classes"):
        build_model("abmil", 4, 1)


def test_weights_that_fit_nowhere_are_refused() -> None:
    with pytest.raises(RestainError, match="none has a name"):
        small_model("pama").load_pretrained({"layer.weight": torch.zeros(3)})
    with pytest.raises(RestainError, match="another shape"):
        small_model("pama").load_pretrained({"head.weight": torch.zeros(3)})


def test_clam_samples_what_a_small_bag_has() -> None:
    """The released code fails on bags of fewer than 8 tiles; with 3, all three are sampled from both ends."""
    model = small_model("clam_sb")
    raw = torch.tensor([[0.3, 0.9, 0.1]])
    found = model.instances(raw, torch.randn(3, 16), 1)
    assert found.targets.tolist() == [1, 1, 1, 0, 0, 0]
    assert ClamConfig().samples == 8


def test_clam_weighs_slide_and_instances() -> None:
    model = small_model("clam_mb", dropout=0.0).train()
    bag = make_bag(30, label=1)
    output = model(bag)
    slide = torch.nn.functional.cross_entropy(output.logits[None], torch.tensor([1]))
    assert torch.allclose(model.loss(output, 1), 0.7 * slide + 0.3 * output.extra_loss)
    assert model(make_bag(30)).extra_loss is None, "no label, no instance loss"


def test_transmil_pads_its_square_with_the_first_tiles() -> None:
    """Seven tiles fill nine places: a bag that repeats its first two gives the same."""
    model = small_model("transmil").eval()
    bag = make_bag(7)
    longer = Bag(torch.cat([bag.features, bag.features[:2]]), torch.cat([bag.coords, bag.coords[:2]]), 256.0)
    with torch.no_grad():
        assert torch.allclose(model(bag).logits, model(longer).logits, atol=1e-6)
    assert TransMilConfig().unpad == "last"


def test_nystrom_attention_is_the_exact_one_where_every_tile_is_a_landmark() -> None:
    model = small_model("nystromformer", landmarks=64).eval()
    wide = small_model("nystromformer", landmarks=200).eval()
    bag = make_bag(63)
    with torch.no_grad():
        assert torch.allclose(model(bag).logits, wide(bag).logits, atol=1e-5)


def test_a_nystrom_row_is_the_row_of_its_product() -> None:
    """The heat map's row against the attention applied to the identity."""
    from restain.her2.attention import Landmarks, PinvInit

    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 3, 20, 4)
    attention = Landmarks(q, k, 6, 6, PinvInit.head)
    whole = attention(torch.eye(20).expand(1, 3, 20, 20))
    assert torch.allclose(attention.row(5), whole[0, :, 5].mean(0), atol=1e-5)


def test_slidegraph_leaves_out_columns_that_never_vary() -> None:
    model = small_model("slidegraph").eval()
    bags = [make_bag(40, seed=seed) for seed in range(3)]
    for bag in bags:
        bag.features[:, 5] = 3.0
    model.fit(bags)
    assert model.varying.tolist() == [number != 5 for number in range(DIM)]
    moved = Bag(bags[0].features.clone(), bags[0].coords, 256.0)
    moved.features[:, 5] += torch.arange(40.0)
    with torch.no_grad():
        assert torch.equal(model(bags[0]).logits, model(moved).logits)


def test_heat_refuses_types_that_it_does_not_have() -> None:
    model = small_model("heat", node_types=3)
    bag = make_bag(10)
    kinds = torch.arange(10) % 4
    with pytest.raises(RestainError, match="types of tiles go from 0 to 3"):
        model(Bag(bag.features, bag.coords, 256.0, kinds=kinds))
