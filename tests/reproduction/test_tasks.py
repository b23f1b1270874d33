"""What a network sees: labels, order and augmentation, each from its own random stream."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from deformlib.seeding import stream
from deformlib.warping import Deformation, deform, warp
from reproduction.experiments import data, tasks
from reproduction.experiments.recipes import Recipe
from reproduction.experiments.specs import Training
from reproduction.experiments.tasks import Task, augment, batches, scale

RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.1)
SPEC = Training("cifar10", "max-pool", 0, RECIPE, "protocol-1")
CLASSES = [f"class {k}" for k in range(10)]


def images(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, data.Loaded]:
    """A set of 3,000 training and 50 test images in place of every other."""
    sets = {
        split: (images(n, 3, 4, 4, seed=n), torch.arange(n) * 10 // n, CLASSES)
        for split, n in (("train", 3000), ("test", 50))
    }
    monkeypatch.setattr(
        data, "load", lambda name, split, size=None, classes=None: of_classes(sets[split], classes)
    )
    return sets


def of_classes(loaded: data.Loaded, classes: int | None) -> data.Loaded:
    x, labels, names = loaded
    chosen = labels < len(names[:classes])
    return x[chosen], labels[chosen], names[:classes]


def counted(n: int = 43) -> Task:
    """A task whose images say in their pixels which they are."""
    x = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 4, 4).contiguous()
    return Task(x, torch.arange(n), x, torch.arange(n), CLASSES, "")


def test_real_labels_are_those_of_the_set(small):
    task = tasks.load(SPEC)
    for found, expected in zip((task.images, task.labels), small["train"]):
        assert torch.equal(found, expected)
    assert torch.equal(task.test_images, small["test"][0]) and torch.equal(
        task.test_labels, small["test"][1]
    )
    assert (
        task.identity == data.identity(*small["train"][:2], *small["test"][:2])
        and task.classes == CLASSES
    )


def test_random_labels_are_uniform_and_independent_of_the_real_ones(small):
    task = tasks.load(dataclasses.replace(SPEC, task="random-labels"))
    assert chisquare(task.labels.bincount(minlength=10)).pvalue > 0.01
    table = torch.bincount(task.labels * 10 + small["train"][1], minlength=100)
    assert chisquare(table).pvalue > 0.01 and table.min() > 0
    assert torch.equal(task.test_labels, small["test"][1])
    assert task.identity == tasks.load(SPEC).identity, "the data set is the same one"


def test_random_labels_depend_on_their_seed_alone(small):
    def labels(**fields) -> Tensor:
        return tasks.load(dataclasses.replace(SPEC, task="random-labels", **fields)).labels

    assert torch.equal(labels(label_seed=1), labels(label_seed=1, seed=5, downsampling="strided"))
    assert not torch.equal(labels(label_seed=1), labels(label_seed=2))
    random = tasks.load(dataclasses.replace(SPEC, task="random-labels", label_seed=1))
    seen = [dict(_labels_by_image(random, epoch)) for epoch in (0, 1)]
    common = seen[0].keys() & seen[1].keys()
    assert len(common) > 2900 and all(seen[0][image] == seen[1][image] for image in common)


def _labels_by_image(task: Task, epoch: int):
    for x, y in batches(task, RECIPE, 0, epoch):
        yield from ((image.numpy().tobytes(), int(label)) for image, label in zip(x, y))


def test_a_subset_is_fixed_and_keeps_images_with_their_labels(small):
    task = tasks.load(dataclasses.replace(SPEC, examples=700))
    again = tasks.load(dataclasses.replace(SPEC, examples=700, seed=3, downsampling="strided"))
    assert torch.equal(task.images, again.images) and torch.equal(task.labels, again.labels)
    where = {image.numpy().tobytes(): int(label) for image, label in zip(*small["train"][:2])}
    kept = {image.numpy().tobytes(): int(label) for image, label in zip(task.images, task.labels)}
    assert len(kept) == 700 and kept.items() <= where.items()
    assert task.labels.unique().tolist() == list(range(10)), "not the first ones of a sorted set"
    assert task.identity == tasks.load(SPEC).identity and len(task.test_images) == 50


def test_the_first_classes_alone(small):
    task = tasks.load(dataclasses.replace(SPEC, classes=3, examples=500))
    assert task.classes == CLASSES[
        :3
    ] and task.labels.unique().tolist() == task.test_labels.unique().tolist() == [0, 1, 2]
    assert len(task.images) == 500 and len(task.test_images) == 15
    where = {image.numpy().tobytes(): int(label) for image, label in zip(*small["train"][:2])}
    assert all(
        where[image.numpy().tobytes()] == int(label)
        for image, label in zip(task.images, task.labels)
    )


class TestRandomImages:
    """Normal images: what they share with the data, and what not."""

    @pytest.fixture
    def natural(self, monkeypatch: pytest.MonkeyPatch) -> Tensor:
        """3,000 images, and 50 others, of alike neighbouring pixels far from the range's ends."""
        rng = np.random.default_rng(0)
        waves = rng.normal(size=(3050, 1, 1, 1)) * 20 * np.linspace(0.2, 1, 16).reshape(1, 1, 4, 4)
        x = torch.from_numpy(
            (128 + waves + rng.normal(size=(3050, 3, 4, 4)) * 4)
            .round()
            .clip(0, 255)
            .astype(np.uint8)
        )
        labels = torch.arange(3050) % 10
        sets = {
            "train": (x[:3000], labels[:3000], CLASSES),
            "test": (x[3000:], labels[3000:], CLASSES),
        }
        monkeypatch.setattr(data, "load", lambda name, split, size=None, classes=None: sets[split])
        return x[:3000].flatten(1).double()

    @staticmethod
    def drawn(task: str, **fields) -> Task:
        return tasks.load(dataclasses.replace(SPEC, task=task, **fields))

    @pytest.mark.parametrize(
        "task, correlated", [("gaussian-images", True), ("white-images", False)]
    )
    def test_moments(self, task: str, correlated: bool, natural: Tensor):
        found = self.drawn(task).images.flatten(1).double()
        expected = natural.T.cov() if correlated else torch.diag(natural.var(0))
        torch.testing.assert_close(found.mean(0), natural.mean(0), atol=1.5, rtol=0)
        torch.testing.assert_close(found.T.cov(), expected, atol=30, rtol=0)
        assert natural.T.cov()[0, 15] > 60 and expected.max() > 300, (
            "otherwise the tolerance says nothing"
        )
        assert not (found[:, None] == natural[None, :50]).all(2).any(), "an image of the data"

    @pytest.mark.parametrize("kind", ["gaussian-images", "white-images"])
    def test_labels_are_random_and_test_images_natural(self, kind: str, natural: Tensor):
        task = self.drawn(kind)
        assert not torch.equal(task.labels, tasks.load(SPEC).labels) and torch.equal(
            task.labels, self.drawn("random-labels").labels
        )
        assert chisquare(task.labels.bincount(minlength=10)).pvalue > 0.01
        assert torch.equal(task.test_images, tasks.load(SPEC).test_images)
        assert task.identity == tasks.load(SPEC).identity

    def test_the_same_for_all_but_another_draw(self, natural: Tensor):
        first = self.drawn("white-images").images
        assert torch.equal(first, self.drawn("white-images", seed=3, downsampling="strided").images)
        assert not torch.equal(first, self.drawn("white-images", label_seed=1).images)


class TestTemplates:
    """Single digits, each a class of its deformed copies."""

    SPEC = dataclasses.replace(SPEC, data="mnist", task="templates", classes=5, strength=1.5)

    @pytest.fixture(autouse=True)
    def digits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        y, x = torch.meshgrid(*[torch.arange(32.0)] * 2, indexing="ij")
        waves = [
            (127 + 120 * torch.sin(x * a / 20 + a) * torch.cos(y * a / 30)).to(torch.uint8)
            for a in range(1, 41)
        ]
        sets = {"train": (torch.stack(waves)[:, None], torch.arange(40) % 10, CLASSES)}
        sets["test"] = sets["train"]
        monkeypatch.setattr(
            data,
            "load",
            lambda name, split, size=None, classes=None: of_classes(sets[split], classes),
        )

    def test_a_class_is_one_image(self):
        task = tasks.load(self.SPEC)
        assert len(task.images) == len(task.labels) == tasks.COPIES and task.classes == [
            f"template {k}" for k in range(5)
        ]
        assert chisquare(task.labels.bincount(minlength=5)).pvalue > 0.9
        for k in range(5):
            assert len(task.images[task.labels == k].flatten(1).unique(dim=0)) == 1
        assert len(task.images.flatten(1).unique(dim=0)) == 5
        other = tasks.load(dataclasses.replace(self.SPEC, label_seed=1))
        assert not torch.equal(other.images, task.images)
        assert torch.equal(
            tasks.load(dataclasses.replace(self.SPEC, seed=4, strength=3.0)).images, task.images
        )

    @pytest.mark.parametrize("kind", ["templates", "templates-in-noise"])
    def test_examples_are_made_anew_at_every_use(self, kind: str):
        task = tasks.load(dataclasses.replace(self.SPEC, task=kind))
        first, again, next_epoch = (next(batches(task, RECIPE, 0, epoch)) for epoch in (0, 0, 1))
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
        for x, y in (first, next_epoch):
            change = (x - scale(task.images[y], "unit")).flatten(1).norm(dim=1)
            assert (change > 0.3).all() and (kind != "templates" or (x.min() >= 0 and x.max() <= 1))
        alike = (first[1][:, None] == next_epoch[1][None]).nonzero()
        assert len(alike) and all(not torch.equal(first[0][a], next_epoch[0][b]) for a, b in alike)

    def test_a_deformed_copy_is_the_warped_template(self):
        task = tasks.load(self.SPEC)
        found = task.vary(task.images[:4], stream(7, "here"))
        control = Deformation(3, 1.5).sample(4, generator=stream(7, "here"))
        expected = warp(
            scale(task.images[:4], "unit"), Deformation(3, 1.5).spline((32, 32)).field(control)
        )
        torch.testing.assert_close(found.float() / 255, expected, atol=0.5 / 255 + 1e-5, rtol=0)

    def test_noise_is_as_large_as_the_deformation_would_be(self):
        """Black and white pixels among them: nothing is clipped."""
        noisy = tasks.load(dataclasses.replace(self.SPEC, task="templates-in-noise"))
        images = torch.where(noisy.images[:64] < 128, 0, 255).to(torch.uint8)
        x = scale(images, "unit")
        change = deform(x, Deformation(3, 1.5), generator=stream(7, "here")) - x
        noise = noisy.vary(images, stream(7, "here")) - x
        torch.testing.assert_close(
            noise.flatten(1).norm(dim=1), change.flatten(1).norm(dim=1), rtol=1e-4, atol=0
        )
        assert (
            ((x + noise) < 0).any() and ((x + noise) > 1).any() and abs(float(noise.mean())) < 0.01
        )
        assert float(
            torch.corrcoef(torch.stack([noise.flatten(), change.flatten()]))[0, 1]
        ) == pytest.approx(0, abs=0.02)

    @pytest.mark.parametrize("kind", ["templates", "templates-in-noise"])
    def test_test_examples_are_varied_too_and_keep_their_labels(self, kind: str):
        task = tasks.load(dataclasses.replace(self.SPEC, task=kind))
        clean = scale(task.images[: len(task.test_images)], "unit")
        assert torch.equal(task.test_labels, task.labels[: len(task.test_labels)])
        moved = (scale(task.test_images, "unit") - clean).flatten(1).norm(dim=1)
        assert (moved > 0.3).all()
        means = torch.stack([clean[task.test_labels == k][0] for k in range(5)]).flatten(1)
        nearest = torch.cdist(scale(task.test_images, "unit").flatten(1), means).argmin(1)
        assert (nearest == task.test_labels).double().mean() > 0.95

    @pytest.mark.parametrize("classes", [None, 1, 41])
    def test_there_are_as_many_templates_as_classes(self, classes: int | None):
        message = f"classes must be in 2..40 for templates, got {classes}"
        with pytest.raises(ValueError, match=message):
            tasks.load(dataclasses.replace(self.SPEC, classes=classes))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"examples": 3001}, r"examples must be in 1..3000 for cifar10, got 3001"),
    ],
)
def test_bad_input_is_named_with_what_it_may_be(fields: dict, message: str, small):
    with pytest.raises(ValueError, match=message):
        tasks.load(dataclasses.replace(SPEC, **fields))


def test_the_images_are_of_the_size_asked_for(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def load(name: str, split: str, size: int | None = None, classes: int | None = None):
        asked.append((split, size))
        return torch.zeros(4, 3, size, size, dtype=torch.uint8), torch.arange(4) % 2, ["a", "b"]

    monkeypatch.setattr(data, "load", load)
    assert tasks.load(dataclasses.replace(SPEC, size=48)).images.shape == (
        4,
        3,
        48,
        48,
    ) and asked == [("train", 48), ("test", 48)]


def test_an_epoch_shows_each_example_once_but_the_last_few():
    for x, y in batches(counted(), RECIPE, 0, 0):
        assert x.shape == (8, 3, 4, 4) and x.dtype == torch.float32
        assert torch.equal((x[:, 0, 0, 0] * 255).round().long(), y), "an image with another's label"
    seen = order(seed=0, epoch=0)
    assert len(seen) == len(set(seen)) == 40 and seen != sorted(seen)
    assert set().union(*(order(0, epoch) for epoch in range(8))) == set(range(43)), (
        "some example is never shown"
    )


def order(seed: int, epoch: int) -> list[int]:
    return torch.cat([y for _, y in batches(counted(), RECIPE, seed, epoch)]).tolist()


def test_the_order_is_another_one_for_each_epoch_and_seed():
    orders = {tuple(order(seed, epoch)) for seed, epoch in itertools.product(range(3), range(3))}
    assert len(orders) == 9
    assert order(1, 2) == order(1, 2)


def test_augmentation_is_another_one_for_each_epoch_and_seed_and_leaves_the_order():
    alike = images(1, 3, 8, 8).expand(16, -1, -1, -1)
    task = Task(alike, torch.arange(16), alike, torch.arange(16), CLASSES, "")
    recipe = dataclasses.replace(RECIPE, batch_size=16, crop=4, flip=True)
    shown = {key: next(batches(task, recipe, *key)) for key in [(0, 0), (0, 1), (1, 0)]}
    assert len({x.numpy().tobytes() for x, _ in shown.values()}) == 3
    for key, (x, y) in shown.items():
        assert torch.equal(x, next(batches(task, recipe, *key))[0])
        assert torch.equal(
            y, next(batches(task, dataclasses.replace(recipe, crop=0, flip=False), *key))[1]
        )


@pytest.mark.parametrize("crop, flip", [(2, True), (1, True), (3, False), (0, True), (0, False)])
def test_an_augmented_image_is_the_original_flipped_and_shifted(crop: int, flip: bool):
    """Brute force: every shift of NumPy's reflected padding, and its mirror image."""
    x = images(600, 3, 8, 10)
    recipe = dataclasses.replace(RECIPE, crop=crop, flip=flip)
    out = augment(x, recipe, stream(0, "test"))
    assert out.dtype == torch.uint8 and out.shape == x.shape
    seen = []
    for original, augmented in zip(x.numpy(), out.numpy()):
        padded = np.pad(original, [(0, 0), (crop, crop), (crop, crop)], mode="reflect")
        found = []
        for dy, dx in itertools.product(range(2 * crop + 1), repeat=2):
            shifted = padded[:, dy : dy + 8, dx : dx + 10]
            found += [(dy, dx, False)] * np.array_equal(augmented, shifted)
            found += [(dy, dx, True)] * np.array_equal(augmented, shifted[:, :, ::-1])
        assert len(found) == 1
        seen += found
    shifts = itertools.product(range(2 * crop + 1), repeat=2)
    assert set(seen) == {(dy, dx, mirrored) for dy, dx in shifts for mirrored in {False, flip}}
    if flip:
        assert 0.4 < np.mean([mirrored for *_, mirrored in seen]) < 0.6


def test_pixels_in_either_mode():
    x = images(5, 3, 4, 4)
    unit = x.numpy() / 255
    np.testing.assert_allclose(scale(x, "unit"), unit, rtol=1e-6)
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    expected = (unit - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(scale(x, "standardized"), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        scale(scale(x, "unit"), "standardized"), expected, rtol=1e-5, atol=1e-6
    )
    assert scale(x, "unit").dtype == scale(x, "standardized").dtype == torch.float32


def test_grey_images_are_not_standardized(monkeypatch: pytest.MonkeyPatch):
    grey = images(50, 1, 4, 4), torch.arange(50) % 10, CLASSES
    monkeypatch.setattr(data, "load", lambda name, split, size=None, classes=None: grey)
    recipe = dataclasses.replace(RECIPE, pixels="standardized")
    spec = dataclasses.replace(SPEC, data="mnist", recipe=recipe)
    message = "pixels must be 'unit' for mnist, which is grey, got 'standardized'"
    with pytest.raises(ValueError, match=message):
        tasks.load(spec)
    assert tasks.load(dataclasses.replace(spec, recipe=RECIPE)).images.shape == (50, 1, 4, 4)


def test_batches_come_in_the_pixels_of_the_recipe():
    task = Task(
        images(8, 3, 4, 4), torch.arange(8), images(1, 3, 4, 4), torch.arange(1), CLASSES, ""
    )
    [(x, y)] = batches(task, dataclasses.replace(RECIPE, pixels="standardized"), 0, 0)
    assert torch.equal(x, scale(task.images[y], "standardized"))


def test_streams_differ_by_seed_purpose_and_epoch():
    draws = {
        tuple(torch.rand(4, generator=stream(*key)).tolist())
        for key in [(0, "order"), (1, "order"), (0, "labels"), (0, "order", 1), (0, "order/1")]
    }
    assert len(draws) == 5
    assert torch.equal(
        torch.rand(4, generator=stream(0, "order")), torch.rand(4, generator=stream(0, "order", 0))
    )


def test_streams_never_change():
    """Records rest on them; integers are the same on every machine."""
    assert torch.randint(1000, (4,), generator=stream(0, "order", 2)).tolist() == [
        895,
        266,
        916,
        486,
    ]
