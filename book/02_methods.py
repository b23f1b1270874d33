# %% [markdown]
# (methods)=
# # Methods
#
# Three verbs make the paper's experiment: **deform** an image, **represent** it layer by layer, **measure** how far
# the representation moved. This chapter takes them one by one, as in Section 2 of {cite:t}`ruderman2018`. It ends
# with what the paper does not say and we had to choose.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
from dataclasses import asdict

import pandas as pd
import torch
from myst_nb import glue

from deformlib import (
    DOWNSAMPLINGS,
    Deformation,
    cifar10_vgg,
    deform,
    distances,
    imagenet_vgg,
    normalized_distance,
    sensitivity,
    visit,
)
from deformlib.seeding import stream
from reproduction.analysis.evidence import collect
from reproduction.experiments.data import load
from reproduction.experiments.photos import COUNTS, square
from reproduction.experiments.protocol import PROTOCOLS
from reproduction.experiments.studies import study
from reproduction.pages.figures import deformation_steps

# %% [markdown]
# ## Deform
#
# Lay an evenly spaced grid of control points over the image. Displace each of them at random, uniformly in a square:
# up to 10 px along each axis on a grid of 5x5 for ImageNet, up to 2 px on 3x3 for CIFAR-10. Between the control
# points the displacement is interpolated by a thin plate spline {cite:p}`duchon1977`, which of all fields through
# the given displacements is the one that bends least, as a thin metal plate would. The image is then resampled along
# the field, bilinearly.
#
# The map is *backward*: the displacement at a point says where its value is taken from. With $u$ the field,
#
# $$
# \tau(x)(p) = x(p + u(p)),
# $$ (backward)
#
# so every pixel of the result gets a value, which a forward map would not promise. What lies outside the image is
# taken from its nearest edge.
#
# {numref}`fig-2` shows the steps, as in the paper on a grid of 4x4 points, which makes them easier to see, and with
# displacements of up to 16 px. Follow one arrow: it starts where a value is taken and ends where it is put. Where
# arrows diverge the image is stretched, where they converge it is compressed.

# %%
cat = square("chelsea")  # (3, 224, 224)
drawn = Deformation(grid=4, max_displacement=16)
spline = drawn.spline((224, 224))
control = drawn.sample(1, generator=stream(0, "figure 2"))  # (1, 16, 2)
bent = spline.warp(cat[None], control)[0]

# %% mystnb={"image": {"alt": "Four panels: a grid of 16 points with short random arrows; a dense smooth field of arrows; the field over the photograph of a cat; the deformed photograph."}, "figure": {"name": "fig-2", "caption": "How an image is deformed, after Figure 2 of the paper. (a)&nbsp;Evenly spaced control points and a random source for each; (b)&nbsp;the field after thin-plate-spline interpolation, at every 16th pixel; (c)&nbsp;over the image: the value at an arrow's tip is the one found, bilinearly, at its tail; (d)&nbsp;the result."}}
deformation_steps(cat, bent, spline, control[0], step=16)

# %% [markdown]
# Tails may lie outside the image, as at the upper left corner of (a) and (b): there the edge is repeated. The field passes
# through every control displacement exactly, and the numbers behind (a) are these.

# %%
x, y = spline.points.T
dx, dy = control[0].T
pd.DataFrame({"x": x, "y": y, "dx": dx, "dy": dy}).astype(float).round(1)

# %% [markdown]
# ## Measure
#
# How far does a deformation $\tau$ move the representation $r(x)$ of an image $x$, at some layer? Distances alone do
# not answer this, since layers differ in how far apart they keep *any* two images. So the paper divides:
#
# $$
# \frac{\big\langle d(r(x), r(\tau(x))) \big\rangle_x}{\operatorname{median}_{x \ne y} d(r(x), r(y))}
# $$ (sensitivity)
#
# with the cosine distance $d(a, b) = 1 - a \cdot b / (\lVert a\rVert \lVert b\rVert)$. This is the *normalized
# cosine distance*, or **sensitivity** to deformation: 0 if the representation does not
# move, 1 if it moves as far as to a typical other image. Above is the mean over 128 images, each with a deformation
# of its own, below the median over all $128 \cdot 127 / 2$ pairs of the same images undeformed.
#
# **Why normalize?** Here is one untrained network with Max-pool, a quarter as wide as the paper's on 128 views of the
# public-domain photographs, which quick mode trains on. Look at the first two columns from layer to layer, then at the
# third.

# %%
count = {"full": 128, "quick": 64}[mode]
photographs, _, _ = load("photos", "test")
views = photographs[:count].double() / 255  # (N, 3, 32, 32) in [0, 1]
moved = deform(views, Deformation.CIFAR10, generator=stream(0, "why normalize"))
generator = stream(0, "why normalize, network")
network = cifar10_vgg("max-pool", width=0.25, generator=generator).double()

# %%
apart = distances(network, views, moved, network.layers)  # {layer: (N,)}
cosine = sensitivity(network, views, moved, network.layers)
moves = {name: float(d.detach().mean()) for name, d in apart.items()}
table = pd.DataFrame({"to its deformation": moves})
table["between images"] = table["to its deformation"] / pd.Series(cosine)
table["sensitivity"] = pd.Series(cosine)
table["sensitivity, Euclidean"] = pd.Series(
    sensitivity(network, views, moved, network.layers, distance="euclidean")
)
table.astype(object).map("{:.3g}".format)

# %% tags=["remove-cell"]
falls = table.loc["input"] / table.loc["down4"]
glue("normalize-between", f"{falls['between images']:.1f}", display=False)
glue("normalize-moved", f"{falls['to its deformation']:.1f}", display=False)

# %% [markdown]
# From the input to the last layer, the distance of an image to its deformation falls by a factor of
# {glue:text}`normalize-moved`. Does the network become that much more stable on the way? Hardly: the distance between
# different images falls by {glue:text}`normalize-between`. This network makes everything more alike, deformed or not,
# and little of the fall is left after dividing, in the sensitivity.
#
# **Why cosine?** A representation's length mostly says how much contrast an image has, and scaling all weights scales
# all lengths. An untrained network of this family has no biases, so halving an image's brightness halves every
# representation; the cosine does not notice, the Euclidean distance does.

# %%
pd.DataFrame(
    {
        d: {
            "at half the brightness": float(normalized_distance(views, views / 2, d)),
            "deformed": float(normalized_distance(views, moved, d)),
        }
        for d in ("cosine", "euclidean")
    }
).round(3)

# %% [markdown]
# The price: in representations that are never negative, as after a ReLU, no two vectors are further apart than a right
# angle, and what is common to all images makes all cosines large. Normalizing repairs this too, but where zero lies
# still matters: see pixels and batch norm in the tables below. The paper reports that the Euclidean distance gives
# similar results. In the table of layers its column has other values, as it must: the cosine distance is quadratic in a
# small change and the Euclidean one linear, and the one ignores differences in brightness that the other counts. What
# can be compared is which layers are more sensitive than others. Every record of a training and of an untrained network
# holds both.
#
# (representations)=
# ## Represent
#
# The paper has two networks, one for CIFAR-10 and one for ImageNet. Both are modernized versions of VGG
# {cite:p}`simonyan2014`: blocks of 3x3 convolutions, each followed by batch norm {cite:p}`ioffe2015` and ReLU; after
# each block a layer that halves height and width; at the end global average pooling and one linear layer. The
# representations are numbered from the input, 0, and include the downsampling layers. For CIFAR-10 the blocks are 2x32,
# 2x64, 2x128 and 2x256, which makes 13 representations:


# %% tags=["hide-input"]
def shape(representation):
    return "x".join(map(str, representation.shape[1:]))


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def architecture(network, side):
    shapes = visit(network.eval(), torch.zeros(1, 3, side, side), network.layers, shape)
    sizes = [0] + [parameters(network.get_submodule(name)) for name in network.layers[1:]]
    table = {"name": network.layers, "representation": shapes.values(), "parameters": sizes}
    return pd.DataFrame(table).rename_axis("layer")


# %%
architecture(cifar10_vgg("max-pool"), 32)

# %% [markdown]
# For ImageNet they are 2x64, 2x128, 3x256, 3x512 and 3x512, which makes 19:

# %%
architecture(imagenet_vgg("max-pool"), 224)

# %% [markdown]
# Everything turns on the layers named `down`. The paper compares five on CIFAR-10, the *variants* of its experiment, and
# Max-pool with Strided-ReLU on ImageNet:
#
# - **Subsample** keeps the top left value of each 2x2 square. It neither pools nor learns.
# - **Max-pool** keeps the largest of the four.
# - **Average-pool** keeps their mean.
# - **Strided** is a convolution with 2x2 kernels and stride 2, from all channels to all channels: what to keep is
#   learned.
# - **Strided-ReLU** is the same, followed by batch norm and ReLU.
#
# We add a sixth, which the paper does not have. It belongs to no claim, and is in no comparison with published curves:
#
# - **Blur-pool** {cite:p}`zhang2019` keeps the largest of four at *every* position and blurs the result, with the
#   weights [1 2 1] along each axis, before it keeps one position of four. So it pools as Max-pool does, but with less
#   of the aliasing that comes of skipping positions. At the border the edge is repeated, as for deformed images. (Zhang
#   reflects; but the last map of an image of 16x16, the smallest that the network takes, has 2x2 values, of which one
#   position is left, and nothing to reflect.)
#
# The two that learn have more parameters, which a comparison at equal accuracy has to keep in mind. Of the network
# for CIFAR-10:

# %%
sizes = {variant.label: parameters(cifar10_vgg(name)) for name, variant in DOWNSAMPLINGS.items()}
more = {label: f"{size / sizes['Max-pool'] - 1:.0%}" for label, size in sizes.items()}
pd.DataFrame({"parameters": sizes, "more than Max-pool": more})

# %% [markdown]
# Weights start from a normal distribution with standard deviation $1/\sqrt{n_\mathrm{in}}$, where
# $n_\mathrm{in}$ counts the inputs of a unit (channels times kernel area), truncated at two standard deviations.
# Truncation makes the standard deviation that results 0.88 of the nominal one.
#
# (choices)=
# ## What the paper leaves open
#
# A method section of two columns cannot say everything. Here is what we had to choose, what we chose and why. Two of
# them, the scale of pixels and batch norm's statistics, were chosen by measuring untrained networks on 128 test images
# of CIFAR-10 before any training: of the few combinations tried then, [0, 1] pixels with running statistics came
# nearest to the published curves. {doc}`09_choices` has since tried more, with two seeds. It confirms the statistics,
# and finds that its two seeds disagree about pixels. With five seeds the published curves of Figure 3c lie within our
# bands everywhere ({doc}`07_verdict`); they are drawn into our figures.
#
# ### Deformation
#
# | open | here | why |
# |---|---|---|
# | destination (Section 2.1) or source (Figure 2) | source: the map is backward | the caption of Figure 2 says how values are computed, and its arrow heads stand on the grid |
# | where the grid ends | at the edges: first and last pixel | as drawn in Figure 2 |
# | sources outside the image | left there, not moved to the edge | the text does not mention it; in Figure 2 several arrows at the edge run along it, as if sources had been clipped |
# | what lies outside | the nearest edge pixel | no dark border appears that a network could see |
# | one deformation for all images, or one each | one each | more draws in the same mean |
# | ImageNet's deformation at another size | in proportion to the side: 10 px at 224 | the same deformation of the scene |
# | grid of the MNIST tasks | 3x3, digits padded to 32 px | CIFAR-10's network halves the side four times; 28 px does not allow it |
#
# ### Measure
#
# | open | here | why |
# |---|---|---|
# | training or test images | test images (training images too, in the full measurement) | stability on images the network has not fitted |
# | mean and median | mean over images of the numerator; median over all pairs of the 128 images, as NumPy's for an even count | Section 2.1; with one median for all images the mean of quotients is the quotient |
# | images and deformations in repetitions | the same for all seeds, variants and checkpoints | the published bands have no width at layer 0 |
# | where in a conv block | after its ReLU (before it too, in the records) | what the next layer sees |
# | precision | float32; $d$ as half the squared distance of unit vectors | one minus a cosine loses the digits of small distances |
#
# ### Networks
#
# | open | here | why |
# |---|---|---|
# | scale of pixels | [0, 1], not centred | nearest to the published curves in the trial that decided; {doc}`09_choices` does not confirm it |
# | batch norm when measuring | running statistics, at initialization mean 0 and variance 1 | nearest to the published curves; statistics computed anew are in the records as well: on training images, for Figure 3a on 128 other photographs, for Figure 4 none |
# | batch norm's constants | PyTorch's: scale and offset, epsilon $10^{-5}$, momentum 0.1 | the usual ones |
# | padding of 3x3 convolutions | one zero on each side | sizes change in the downsampling layers only |
# | bias of convolutions | none | batch norm, which follows, has an offset of its own; Strided's go without for likeness |
# | Strided's norm and ReLU | neither | Strided-ReLU is said to have both |
# | the downsampling of Figure 4 | Strided-ReLU | its published curves do not step down at the downsampling layers, as those of Max-pool do in Figure 3a |
# | bias of the last layer | yes, starting from 0 | the usual one |
# | is a 2x2 kernel a filter? | neither counted as one nor smoothed | the paper's smoothness plots show the 3x3 convolutions only |
# | seeds of different variants | shared: the same seed draws the same 3x3 filters and last layer in every variant, and the same order of examples | comparisons between variants are paired, and layers 0 to 2 agree at initialization; the published variants differ there |
# | optimizer, rate, epochs, augmentation | see {ref}`below <recipe>` | |
#
# ### Data
#
# | open | here | why |
# |---|---|---|
# | which CIFAR-10 | a mirror {cite:p}`krizhevsky2009` whose images were re-encoded as JPEG | it is what was at hand; a record names the decoded pixels by their checksum, so that nothing passes for the original |
# | ImageNet, untrained | the deformation, the networks and the measure at full size, on 128 photographs of its validation set (at hand with a short side of 256) | Figures 3a and 4 need no more |
# | ImageNet, trained | the same architecture half as wide, on 25,000 images of 50 classes of Tiny ImageNet at 64x64; once more at 128x128, a quarter as wide | a million photographs at 224x224 are beyond our machines |
# | which classes of Tiny ImageNet, which MNIST | the first 50 of the 100 classes at hand, of its 200; the digits are drawn from the first 9,000 of its training set | what was at hand: with the hub's copies of these two sets a run would be on other images, as the checksum in its record tells |
# | how photographs become 224x224 | the short side to 224 (bilinear, antialiased), the center cropped | the usual way; {doc}`09_choices` tries others |
#
# ### Where the paper disagrees with itself
#
# | what | how it is read here |
# |---|---|
# | The grid is 5x5 or 3x3 in the text and 4x4 in Figure 2 | Figure 2 is an illustration |
# | Section 5 speaks of random images and shows no result | nothing to compare with |
# | Section 5 refers to Figure 6b for random labels, the panel is 6c | 6c |
# | Section 5 modifies $P(Y\mid X)$ "but holding $P(Y\mid X)$ fixed" | holding $P(X)$ fixed |
# | The formula of smoothness sums over a layer before dividing; the 1.87 of footnote 1 is what averaging each kernel's own ratio gives | both are computed; the mean over kernels is compared with the published curves |
#
# ## How recipes and protocol were chosen
#
# The paper does not say how its networks were trained, and it had its own occasions to look at results before
# deciding how to get them; so do we. What was decided, and before seeing what, is therefore part of the method.
#
# (recipe)=
# ### Recipe
#
# There are two recipes. No figure that reproduces one of the paper's mixes them; {numref}`fig-3d-augmented` and
# {doc}`10_other_measures` set networks of both side by side, and say so. *Plain* has no augmentation and no weight decay:
# nothing asks for stability but the images and their labels, and random labels can be fitted by the same recipe. All
# figures that reproduce the paper's use it or one of its variations below. *Augmented* is tuned for accuracy and is
# meant to check that what is found does not depend on the plain one. Both are SGD with Nesterov momentum; the rate
# rises linearly from 0 over the share of steps called `warmup` and falls linearly to 0. Weight decay leaves out batch
# norm and biases, the last incomplete batch of an epoch is dropped, and what a random shift uncovers is filled by
# reflection. {doc}`09_choices` changes the plain one in one respect at a time, on a fifth of the images.
#
# The networks of full mode were trained on two machines, and all were measured in float32. Most were trained on a CPU,
# in float32. The others were trained on an NVIDIA H100 (with PyTorch 2.11 in place of 2.14), in TensorFloat-32: the
# factors of a product are rounded to 11 significant bits, and the sums are in float32. These are, by study:
#
# - `cifar10`: seed 3, and Subsample and Strided of seed 4;
# - `cifar10-augmented`: all but Max-pool of seed 0;
# - `cifar10-random-labels`: seeds 3 and 4, and Average-pool, Strided and Strided-ReLU of seed 2; Max-pool's other draws
#   of labels; random labels on all images;
# - `cifar10-subset`, its control: seed 2, but for Blur-pool;
# - `imagenet`: seeds 1 to 4; `imagenet-128`: all;
# - `cifar10-recipes`: six of the seven other ways of training, all but twice the epochs.
#
# What the machines do differently is thus part of the bands over seeds; {doc}`08_costs` compares how networks of both
# scatter. The older PyTorch also draws other initial weights from the same seed. The networks that had begun from such
# weights were unpaired with others of their seed, and were all made again from the weights that the seed has on the
# CPU, when `deformlib.models.initialize` had learned to draw the same in every version: the earlier records are in the
# history of `book/results`. Only seed 3 of `cifar10` was left as it was. Its five variants began from other weights than
# seed 3 now draws, but all from the same. (If nothing else is asked for, a network is trained in TensorFloat-32 on a
# GPU and in bfloat16 on a CPU that has it, else in float32. Only the pilot on the
# original pixels, below, was trained in bfloat16.)

# %%
specs = {
    "plain": study("cifar10").specs(mode)[0],
    "augmented": study("cifar10-augmented").specs(mode)[0],
}
recipes = pd.DataFrame({name: asdict(spec.recipe) for name, spec in specs.items()}, dtype=object)
recipes.dropna(how="all")

# %% [markdown]
# In full mode these train the networks of full width on CIFAR-10. In quick mode both columns are one short recipe for
# narrow networks on the photographs.
#
# The criterion for *plain* was written down before the runs it judges: eight epochs are kept if every variant of seed 0
# reaches 99% training accuracy, otherwise training becomes longer. Average-pool decides it, and narrowly: 98.95% on the
# record's sample of 10,000 training images, 99.07% counted over all 50,000, with the weights that are kept beside the
# record; the paper's other variants stand at 99.7% or more of the sample. The criterion speaks of the training images, so
# eight epochs were kept; but the recount came after the sample, and a reader who holds us to the sample would call it
# missed by 0.05 points. (Other seeds, and Blur-pool, which was added later, are not judged by it.) The protocol was
# tried in quick mode before the first of these runs, and nothing in it has been changed since.
#
# The recipe *augmented* has its own criterion, 90% test accuracy with Max-pool within twelve epochs. It was missed twice:

# %% tags=["hide-input"]
tries = collect("cifar10-augmented-pilot", mode)
varied = {
    name: [getattr(run.spec.recipe, name) for run in tries.records]
    for name in ("batch_size", "learning_rate", "label_smoothing", "crop")
}
pd.DataFrame(varied).join(tries.probes()[["train_accuracy", "test_accuracy"]].mul(100).round(1))

# %% [markdown]
# In full mode the first of these had learned 92.1% of its training images, so the second had twice the steps and less
# noise. It learned 93.3% of them, and 86.9% of the test images are right, fewer than the first one's 87.6%. The first
# one was kept. Test accuracy is all that was looked at, and that of both is here. What stands in the way of 90% may be
# the images, which this mirror has re-encoded as JPEG.
#
# The other studies are variations of *plain*, with criteria that were written down before their first run:
#
# - **Random labels**, and true labels on the same images as their control: a fixed subset of 10,000 images, 20 epochs.
#   Kept if every variant of seed 0 reaches 99% training accuracy on random labels; otherwise 30 epochs for both. The
#   paper's five all reached 100%, so 20 were kept. The criterion does not judge the other seeds, of which Average-pool
#   with seed 2 ended at 95.4% and Max-pool with seed 3 at 97.6%, all others above 99%; nor Blur-pool, which was added
#   later and knew 55 to 65% of its random labels after 20 epochs, with three seeds. On all 50,000 images 20 epochs are
#   too few: Average-pool knew 91% of the labels, Max-pool 27%.
# - **Tiny ImageNet**: the first 50 of its classes at hand, 25,000 images, 12 epochs, whatever the accuracy.
# - **Templates** (Figure 5): ten epochs of 6,400 fresh examples. The task is solved within a few hundred steps, and at
#   a timid learning rate the filters hardly move, so that no strength of deformation could show in them. The rate is
#   the smallest of 0.2, 0.4 and 0.8 at which seed 0 of the weakest deformation, C = 1, moves every filter bank by a
#   tenth of its norm and strengths 1 and 4 both reach 99% accuracy; the same for every strength. The criterion does not
#   look at smoothness.
#
# The pilot for the last of these, with the least that any filter bank moved, relative to its norm before training:

# %% tags=["hide-input"]
pilot = collect("mnist-templates-pilot", mode)
ends = {
    (run.spec.recipe.learning_rate, run.spec.strength): run.measurements.checkpoints[-1]
    for run in pilot.records
}
table = pd.DataFrame(
    {
        key: {
            "training %": 100 * end.probe.train_accuracy,
            "test %": 100 * end.probe.test_accuracy,
            "least moved": min(end.smoothness.change_norm),
        }
        for key, end in ends.items()
    }
).T
table.rename_axis(["learning rate", "C"]).round(3)

# %% [markdown]
# In full mode the first bank decides: at 0.2 and at 0.4 it moved by 0.039 and 0.062, at 0.8 by 0.102. So the rate is
# 0.8, the last of the three, and narrowly: with seeds 1 to 4, which the criterion does not ask about, it moved by 0.085
# to 0.108. It chose by C = 1 alone. At 0.2, C = 4 had moved every bank by 0.8 of its norm or more, and ended with a
# mean total variation of 1.55, nearer to the published 1.59 than the 1.38 to 1.46 of 0.8, with five seeds. (At 0.4 the
# strongest deformation was not tried, since the weakest had failed.) Each task that was tried is learned without an
# error in the end; what happens on the way is a story of its own ({doc}`04_filter_smoothness`).

# %% [markdown]
# ### The recipe on the original pixels
#
# The records so far are of CIFAR-10 as a JPEG mirror. On the original pixels the recipe is chosen anew, by a rule that
# was written before the first run. Each way of training is tried with Max-pool and Strided-ReLU, seed 0 (study
# `recipe-pilot`): the plain recipe; the plain recipe with one change (a rate of 0.2, 16 epochs, 32 epochs, a constant
# rate, standardized pixels, batch norm without a scale); and a rate of 0.2 with 16 epochs. If two other single changes
# each lower the score by more than the margin below, the two are also tried together.
#
# - **Score.** The mean absolute difference to Figure 3d over the 13 layers, plus that to Figure 6b over the eight
#   convolutions (mean over kernels), averaged over the two variants. Both figures are open; no blind panel is looked at.
# - **Margin.** Two standard deviations of that score over seeds. With the five seeds of the plain recipe on the JPEG
#   mirror the standard deviation is 0.0047, so the margin is 0.0095.
# - **Condition.** At least 99.9% of the training images are classified correctly at the end, with both variants.
# - **Choice.** Of the recipes that meet the condition and whose score is within the margin of the lowest, the one with
#   the fewest epochs; among those, the one with the fewest changes from the plain recipe; then the lowest score.
#
# The recipe is then frozen, for real and for random labels.

# %% [markdown]
# (protocol)=
# ### Measurement protocol
#
# A number is cheap and a second training is not, so everything that a later question may need is measured while the
# network is alive. What is measured is written down as a *protocol* under a name and frozen: no record is made under a
# changed protocol of the same name. In full mode CIFAR-10 has `protocol-1`. The networks for Tiny ImageNet, with more
# layers on larger images, and the digit tasks, with many short runs, have smaller ones of their own. What trains
# nothing has no protocol; its spec says how much is measured. For Figures 3a and 4 that is 128 photographs (with seed 0
# two further sets of as many), and for Figure 3a 128 others for the statistics of batch norm.

# %%
protocol = PROTOCOLS[specs["plain"].protocol]
names = dict.fromkeys(
    spec.protocol
    for name in ("cifar10", "imagenet", "mnist-templates")
    for spec in study(name).specs(mode)
)
pd.DataFrame({name: asdict(PROTOCOLS[name]) for name in names}, dtype=object)

# %% [markdown]
# **When.** At `light` checkpoints from initialization to the end, spaced logarithmically because networks change most
# in their first steps; at `full` of these, the first, the last and (for CIFAR-10) three between, the measurement is a
# full one. For the plain recipe these are, in steps and epochs:

# %%
plain = specs["plain"].recipe
examples = {"cifar10": 50_000, "photos": COUNTS["train"]}[specs["plain"].data]
epoch = plain.steps_per_epoch(examples)
when = protocol.checkpoints(epoch * plain.epochs)
pd.DataFrame(
    {
        "epoch": [f"{step / epoch:.2g}" for step in when],
        "full": ["yes" if full else "" for full in when.values()],
    },
    index=pd.Index(when, name="step"),
)

# %% [markdown]
# **On what.** On sets of `images` images, drawn once from the test images and, for the full measurement, from the
# training images. The draw does not depend on the seed of a network: all variants, seeds and checkpoints see the same
# images under the same deformations, so that differences between them are differences between networks. The
# figures use the first set of test images.
#
# **A light measurement** holds, for every layer and for the pooled features and the logits:
#
# - the mean distance to the deformed image, median and mean of the distances between images, and the
#   sensitivity, by cosine and by Euclidean distance;
# - the same before each ReLU, because a ReLU changes angles by itself;
# - the same with batch norm statistics computed anew on `calibration` training images. At initialization the running
#   statistics are 0 and 1, after training they are learned; a part of what seems to be learned could be nothing but
#   batch norm starting to centre its input. The calibrated initialization is the baseline that tells the two apart;
# - for each bank of 3x3 filters its normalized total variation, averaged over kernels and as printed, and once more
#   with the zeros beyond the filter's edge; the same averages for what training added to the initial weights; and
#   how much that is;
# - accuracy on `probes` test images, clean and deformed, the share whose predicted class flips, and accuracy and loss on
#   as many training images. At the end, on `final` of each.
#
# **A full measurement** adds what takes longer and changes slowly, the sensitivity
#
# - on `sets` sets of test images and as many of training images, each with its own deformations, which tells how much of
#   a curve is the luck of 128 images;
# - under deformations of other `strengths`, as multiples of the paper's;
# - under a shift by one whole pixel in a random direction;
# - under noise of the same norm, image by image, as the deformation's change: stability to deformation matters
#   for accuracy relative to stability to anything of that size {cite:p}`petrini2021`;
#
# and the second moments of the nine taps of each filter bank, from which any quadratic measure of smoothness follows.
#
# All of it is computed in float32, in evaluation mode, with autocast off.
