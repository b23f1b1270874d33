# %% [markdown]
# *A draft, which is not built until `cifar10-theory` and `cifar10-random-labels-theory` have records.*

# %% [markdown]
# (why-smooth)=
# # Why smooth filters help
#
# The paper goes from smooth filters to stable networks by a correlation and an informal argument. This chapter asks
# what can be proved, and what can be computed. Take a deformation, a convolution and an image. How far can the
# convolution's response move, and which property of the filter enters? Then the paper's own measure, which no bound
# reaches because it is a ratio: can it be *predicted*, from clean images and weights alone?
#
# **What was found**, in short; the numbers are of the networks counted in {numref}`fig-14-prediction`.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
import pandas as pd
from myst_nb import glue

from deformlib import Deformation
from deformlib.seeding import stream
from reproduction.analysis.deformations import largest_gradient, shapes
from reproduction.analysis.evidence import collect
from reproduction.analysis.prediction import (
    SOURCES,
    bounds_table,
    explained,
    first_layers,
    measurements,
    networks_of,
    smoothing_and_change,
    table,
)
from reproduction.pages.figures import networks_as_points

# %% tags=["hide-input"]
studies = {"full": ("cifar10", "cifar10-random-labels"), "quick": ("cifar10",)}[mode]
variants = {"full": None, "quick": ("max-pool", "strided-relu")}[mode]
for trained in studies:
    collect(trained, mode, seeds=[0], variants=variants)  # the weights, in quick mode
theory = {study: collect(f"{study}-theory", mode, variants=variants) for study in studies}
measured = measurements(theory)
networks = networks_of(measured)
everything = table(networks)
layers = everything[
    (everything["layer"] > 0) & ~everything["before_relu"]
]  # as the paper takes them

# %% tags=["hide-input"]
candidates = [f"{source} {moved}" for source in SOURCES for moved in ("small", "any", "bilinear")]
score = explained(layers, [*candidates, "shifted"])
first_block = explained(layers[layers["layer"] < 3], candidates)
tried = bounds_table(measured)
filters_and_change = smoothing_and_change(networks)
later = filters_and_change[~filters_and_change["name"].str.startswith("conv1")]


def in_each_layer(values):
    groups = values.groupby("name")
    return groups.apply(
        lambda g: g["smoothness"].corr(g["change"], "spearman"), include_groups=False
    )


def glued(key, value, digits=2):
    glue(f"fig-14-{key}", f"{value:.{digits}f}", display=False)


glue("fig-14-networks", len(networks), display=False)
glued("r2-dense", score.loc["dense bilinear", "R2"])
glued("r2-dense-any", score.loc["dense any", "R2"])
glued("rank-dense", score.loc["dense bilinear", "rank"])
glued("ratio-dense", score.loc["dense bilinear", "ratio"])
glued("off-dense", score.loc["dense bilinear", "off by"])
glued("ratio-filtered", score.loc["filtered any", "ratio"])
glued("r2-shifted", score.loc["shifted", "R2"])
glued("ratio-shifted", score.loc["shifted", "ratio"])
glued("first-filtered", first_block.loc["filtered any", "R2"])
glued("first-own", first_block.loc["own bilinear", "R2"])
glued("largest", tried["largest"].max())
total = tried[(tried["bound"] == "change_bound") & (tried["strength"] == 1)]["tightness"]
glued("total-low", total.min())
glued("total-high", total.max())
glued("change-later", in_each_layer(later).mean())
glued("change-first", in_each_layer(filters_and_change.drop(later.index)).mean())

# %% [markdown]
# - *Bounds.* Smoothness of the filter enters one of the two ways in which a deformation acts, and not the other. The
#   bounds are never violated (the most that was reached is {glue:text}`fig-14-largest` of a bound), and at the paper's
#   strength a typical change is {glue:text}`fig-14-total-low` to {glue:text}`fig-14-total-high` of what is allowed.
# - *Prediction.* From the clean representations alone, the sensitivity of every layer of
#   {glue:text}`fig-14-networks` networks is predicted within a factor of {glue:text}`fig-14-off-dense` around a mean
#   ratio of {glue:text}`fig-14-ratio-dense`: R² of the logarithms is {glue:text}`fig-14-r2-dense` with nothing fitted,
#   the rank correlation {glue:text}`fig-14-rank-dense`. This needs the representation at every pixel. On the
#   network's own coarse lattice the prediction fails from the first downsampling on, because of aliases. The mean
#   ratio flatters it: it is too low in trained networks and too high in smooth ones, for a reason given below.
# - *Gradient.* Images that are merely shifted, as far as the deformation moves one of their pixels, give
#   {glue:text}`fig-14-ratio-shifted` of the sensitivity (geometric mean). To these networks the paper's deformations
#   are nearly shifts.
# - *Filters.* How much a layer's filters change the predicted sensitivity goes with their smoothness within a layer
#   from conv2_1 on (rank correlation {glue:text}`fig-14-change-later`, the mean over layers); in the first two it is
#   {glue:text}`fig-14-change-first`.

# %% mystnb={"image": {"alt": "Three panels of points, measured sensitivity against predicted: scattered far below the diagonal at the left and in the middle, along it at the right."}, "figure": {"name": "fig-14-prediction", "caption": "The paper's sensitivity (vertical) against its prediction from clean images, interpolated as the deformed ones are; a point is a layer, after its ReLU. Left: from the spectrum of the layer's input and its filters. Middle: from the spectrum of what the layer returns. Right: the same at every pixel, as if nothing was subsampled. {glue:text}`fig-14-networks` networks, seed 0: untrained, untrained with smoothed filters, and trained."}}
points = pd.concat(
    layers.assign(
        name=title, x=layers[f"{source} bilinear"], y=layers["paper"], study=layers["kind"]
    )
    for source, title in SOURCES.items()
)
networks_as_points(
    points.assign(study=points["study"].str.replace("smoothed.*", "smoothed", regex=True)),
    "prediction",
    "sensitivity",
)

# %% tags=["hide-input"]
score.round(2)

# %% [markdown]
# The table has every prediction: three sources, and three ways of moving a wave, *small*, *any* and *bilinear*, which
# are explained below. *shifted* is no prediction but the measurement with shifted images. `R2` has nothing fitted,
# `layers` and `networks` are rank correlations within a network and within a layer. By kind of network:

# %% tags=["hide-input"]
by_kind = {
    kind: explained(of_kind, ["dense any", "dense bilinear", "shifted"])
    for kind, of_kind in layers.groupby("kind", sort=False)
}
pd.concat(by_kind, names=["networks", "prediction"]).drop(columns=["networks"]).round(2)

# %% [markdown]
# ## The setting
#
# An image $x$ gives each point of the plane a vector of channels; between pixels it is interpolated bilinearly, as the
# deformation does it. A displacement $u$ gives $L_u x(p) = x(p + u(p))$. A convolution is
# $(Wx)(p) = \sum_k W_k\, x(p + k)$, where the tap $W_k$ is a matrix (channels out, channels in) and $|W_k|$ its
# spectral norm. Interpolation is linear and the same at every pixel, so $W$ of the interpolated image is the
# interpolated $Wx$: what follows holds for pixels and not only in a limit. We write $g = \lVert\nabla u\rVert_\infty$
# (the largest spectral norm, also a Lipschitz constant of $u$, {eq}`gradient`), $\lVert\cdot\rVert_2$ for the root of an
# integral over the plane, with Frobenius's norm under it. All of it holds on the interior of an image, where no point is
# carried to where the filter reaches over the edge.
#
# A deformation changes the response by
#
# $$
# W L_u x - W x \;=\; \underbrace{(W L_u - L_u W)\,x}_{\text{commutator, A}} \;+\; \underbrace{L_u\,Wx - Wx}_{\text{transport, B}} .
# $$
#
# ## A. Commutation: no smoothness enters
#
# At the point $p$, since $(Wx)(p + u(p)) = \sum_k W_k\,x(p + u(p) + k)$,
#
# $$
# [W, L_u]\,x(p) = \sum_k W_k \bigl( x(p + k + u(p+k)) - x(p + k + u(p)) \bigr).
# $$
#
# The two arguments differ by $u(p+k) - u(p)$. So with $\mathrm{Lip}(x)$ the Lipschitz constant of the vector-valued $x$,
# and $|u(p+k) - u(p)| \le g\,|k|$,
#
# $$
# \bigl|[W, L_u]\,x(p)\bigr| \;\le\; \sum_k |W_k|\,|u(p+k) - u(p)|\,\mathrm{Lip}(x) \;\le\; g\, M_1\, \mathrm{Lip}(x),
# \qquad M_1 = \sum_k |k|\,|W_k| .
# $$
#
# What enters is how far the taps are apart, not how they vary. A filter and its most jagged relative, with the same
# magnitudes and other signs, have the same bound (with one channel in and out). And a shift, $g = 0$, commutes with every convolution.
#
# ## B. Stability: smoothness enters through the transport
#
# Write $y = Wx$. Along the straight way from $p$ to $p + u(p)$,
# $y(p + u(p)) - y(p) = \int_0^1 \nabla y(p + t\,u(p))\,u(p)\,dt$, so by Minkowski's inequality
#
# $$
# \lVert L_u y - y\rVert_2 \;\le\; \lVert u\rVert_\infty \int_0^1 \bigl\lVert \nabla y \circ (\mathrm{id} + t u) \bigr\rVert_2\,dt .
# $$
#
# The map $\mathrm{id} + tu$ is one to one for $g < 1$. All singular values of $1 + t\nabla u$ are at least
# $1 - tg$, and there are two of them, so its determinant is at least $(1 - tg)^2$. Changing variables costs one over
# the determinant under the integral, and outside the root
#
# $$
# \bigl\lVert f \circ (\mathrm{id} + t u)\bigr\rVert_2 \;\le\; \frac{1}{1 - tg}\,\lVert f\rVert_2 .
# $$ (change-of-variables)
#
# The constant is right as it stands in two dimensions, and only there: in $d$ dimensions it is $(1 - tg)^{-d/2}$. A
# uniform contraction $u = -g\,p$ reaches it. Averaged over $t$ it is $-\log(1 - g)/g$, which is smaller. The same argument with A's
# difference, whose points $p + k + (1-s)\,u(p) + s\,u(p+k)$ are also moved by a field of gradient at most $g$, gives
#
# $$
# \lVert W L_u x - W x\rVert_2 \;\le\; \frac{g\,M_1 \lVert\nabla x\rVert_2}{1 - g}
# + \frac{-\log(1-g)}{g}\,\lVert u\rVert_\infty \lVert\nabla (Wx)\rVert_2
# \;\le\; \frac{g\,M_1 \lVert\nabla x\rVert_2 + \lVert u\rVert_\infty \lVert\nabla (Wx)\rVert_2}{1 - g} .
# $$ (stability)
#
# Here the filter's smoothness enters. One step to the side, $e$, changes the response by
# $(Wx)(p + e) - (Wx)(p) = \sum_k (W_{k-e} - W_k)\,x(p + k)$, with taps that are zero outside the kernel. By Young's
# inequality, and because $c$ may be any colour (a constant has no gradient),
#
# $$
# \lVert\nabla(Wx)\rVert_2 \;\le\; \sqrt{V_{\to}^2 + V_{\downarrow}^2}\;\lVert x - c\rVert_2, \qquad V_e = \sum_k |W_{k-e} - W_k| .
# $$
#
# (For a bilinear interpolant the integral of the squared derivative is at most the sum of squared differences.)
# The *zero-extended* variation is what counts, and not the printed one. A constant 3x3 filter has a
# normalized total variation of 0, yet $V_e / \sum_k|W_k| = 2/3$; that is the least there is, as a row of three taps must rise
# and fall again. The most is 2, for a single tap or alternating signs; independent normal weights have
# $(2 + 2\sqrt2)/3 = 1.61$. So smoothness can take off no more than two thirds of this bound, and the kernel's size
# sets the limit.
#
# **A bound on numerators says nothing about a ratio.** The paper divides by the distance between images. Halve
# all weights and every bound is halved, and the sensitivity stays. A smooth filter makes $\lVert\nabla(Wx)\rVert$
# smaller *relative to* $\lVert W(x - x')\rVert$ only if it keeps what differs between images, which depends on the
# images. No norm of the filter knows that. This is what C is for.
#
# ### How tight, and where they fail
#
# Both bounds on CIFAR-10 photographs, in float64, with the paper's deformations at an eighth to twice their strength
# and the filters of first layers; B's integrals on a lattice of four points to a pixel. The table has the median over
# images of what is bounded, as a fraction of the bound.

# %% tags=["hide-input"]
shown = tried.pivot_table(
    index=["filters", "strength"], columns="bound", values="tightness", sort=False
)
circumstances = tried.groupby(["filters", "strength"], sort=False)[["gradient", "may fold"]].first()
circumstances.join(shown).round(2)

# %% [markdown]
# `by_differences` and `by_gradient` are A's two steps; `commutator_bound` and `transport_bound` the two parts of
# {eq}`stability` and `change_bound` the whole of it; `response_gradient_bound` the step through $V_e$. Rough or smooth,
# gentle or strong, the fractions hardly depend on the filter. A bound that is loose by one and the same factor would order filters well,
# but the factor is not the same for all parts.
#
# As $g$ approaches 1 the bound says less and less, and beyond it nothing. How often is that so?

# %% tags=["hide-input"]
used = {"ImageNet": (Deformation.IMAGENET, 224), "CIFAR-10": (Deformation.CIFAR10, 32)}
steepness = {}
for name, (deformation, side) in used.items():
    found = shapes(deformation, (side, side), 64, generator=stream(0, "shapes"))["gradient_norm"]
    spline = deformation.spline((side, side))
    steepness[name] = {
        "median gradient": float(found.median()),
        "fraction above 1/2": float((found > 0.5).double().mean()),
        "largest possible": largest_gradient(spline, deformation.max_displacement),
    }
pd.DataFrame(steepness).T.round(2)

# %% tags=["remove-cell"]
for key, name in (("imagenet", "ImageNet"), ("cifar10", "CIFAR-10")):
    glue(f"fig-14-steep-{key}", f"{steepness[name]['fraction above 1/2']:.0%}", display=False)

# %% [markdown]
# No deformation of the paper's natural images folds, so {eq}`stability` applies to all of them. But
# {glue:text}`fig-14-steep-imagenet` of ImageNet's are steeper than one half, where $1/(1 - g)$ more than doubles the
# bound; of CIFAR-10's it is {glue:text}`fig-14-steep-cifar10`. Twice CIFAR-10's strength is beyond one half as a rule.
#
# ## C. The measure itself
#
# Let the response $y$ be stationary: its statistics are the same at every pixel. Let $u$ be drawn independently of the
# image, and leave out the commutator. At a point $p$ only the value $u(p)$ matters and no gradient. With $S(\omega)$
# the spectrum of the *difference* between two images (twice that of one) and $\hat w$ the filter's transform,
#
# $$
# \mathbb{E}\,|y(p + u) - y(p)|^2 = \int \bigl(1 - \mathbb{E}\cos(\omega\cdot u)\bigr)\,|\hat w|^2 S\,d\omega, \qquad
# \mathbb{E}\,|y(p) - y'(p)|^2 = \int |\hat w|^2 S\,d\omega .
# $$
#
# Their ratio is the prediction; to first order, with $\mathbb{E}(\omega\cdot u)^2 = |\omega|^2\,\mathbb{E}|u|^2/2$,
#
# $$
# q' = \frac{\int (1 - \mathbb{E}\cos(\omega\cdot u))\,|\hat w|^2 S}{\int |\hat w|^2 S}, \qquad
# q = \frac{\mathbb{E}|u|^2}{4}\;\frac{\int |\omega|^2\,|\hat w|^2 S}{\int |\hat w|^2 S} .
# $$
#
# The control displacements are uniform, so $\mathbb{E}\cos(\omega\cdot u)$ is a product of $\sin(a)/a$ at each pixel. A
# third form, $q''$, has what bilinear interpolation makes of the wave in place of the wave: half-way
# between pixels it flattens the finest wave altogether, and so moves it less. The table of predictions calls the three
# *small* ($q$), *any* ($q'$) and *bilinear* ($q''$). Scaling the weights changes none of them.
#
# ### Details that matter
#
# - *Distance.* The ratio is one of squared Euclidean distances, mean over mean. The paper's cosine distance is half the squared
#   Euclidean one between vectors of length 1. So for cosine we take the spectrum of representations divided by their
#   length, which weighs a faint image as much as one rich in contrast.
# - *Median.* The paper divides by the median over pairs. We multiply with mean over median of the clean pairs, which sees no
#   deformation either.
# - *Edge.* A Fourier transform takes an image as periodic, and the jump from one edge to the other is energy at high frequencies which
#   no deformation moves. We continue images by reflection (cosine transform). A Hann window also removes the jump,
#   but looks at the middle of the image, where there is more detail: with it $q'$ comes out higher.
#
# ### First layers
#
# The image and first convolutions before their ReLU, where everything is linear:

# %% tags=["hide-input"]
first = first_layers(networks)
first.round(3)

# %% tags=["remove-cell"]
linear = {
    (distance, moved): first[distance, moved] / first[distance, "measured"]
    for distance in ("euclidean", "cosine")
    for moved in ("small", "any", "bilinear")
}
for (distance, moved), ratio in linear.items():
    glued(f"first-{distance}-{moved}", ratio.mean())

# %% [markdown]
# On average $q$ is {glue:text}`fig-14-first-euclidean-small` times what is measured with squared Euclidean distances, $q'$
# {glue:text}`fig-14-first-euclidean-any` times and $q''$ {glue:text}`fig-14-first-euclidean-bilinear` times. With cosine
# distances these are {glue:text}`fig-14-first-cosine-small`, {glue:text}`fig-14-first-cosine-any` and
# {glue:text}`fig-14-first-cosine-bilinear`. So $q$ is too large because 2 px is not small against the images' detail, and
# $q'$ because it forgets the interpolation.
#
# ## Through ReLU, batch norm and depth
#
# **Batch norm** in eval mode scales channels: part of $\hat w$. Its shift is the same for all images. Under cosine it
# changes only lengths.
#
# **ReLU** works point by point, so it commutes with $L_u$ as long as nothing is interpolated; between pixels,
# $\max(0, \cdot)$ of a mean is at most the mean of the $\max(0, \cdot)$. It does not enlarge distances, but
# makes a representation's spectrum finer (a kink has high frequencies), and the ratio can grow.
#
# **Subsampling and pooling.** Of a stationary representation every second pixel moves as much as all of them, so
# dropping pixels changes no sensitivity by itself. But what is left is aliased: a wave too fast for the new
# lattice appears as a slow one, and a prediction from that lattice takes it for one. That is why the left and middle
# panels of {numref}`fig-14-prediction` fail. The cure is exact: evaluate the same network at every pixel, its later
# taps further apart. The network's own representation is every second, fourth, ... pixel of that one; nothing else is new. Pooling
# is then an ordinary filter, and average pooling a smooth one.
#
# With the spectrum at every pixel, the assumption left is that a representation moves with the image, together with stationarity. The last
# assumption to test is the gradient: images shifted as a whole have none.

# %% tags=["hide-input"]
depth = layers.groupby(["layer", "kind"], sort=False)[
    ["paper", "shifted", "dense any", "dense bilinear"]
].mean()
depth.xs(studies[0], level="kind").round(3)

# %% [markdown]
# This is the mean over variants of the networks trained on real labels. The difference between *paper* and *shifted* is
# the work of the gradient, which bound A limits, and grows with depth, as a unit's field of view does. That between *shifted* and *dense any* is
# what is not stationary, and what interpolated images are to a network that is not linear.
#
# One departure from stationarity works the other way. Convolutions pad with zeros, which puts a pattern along the edge
# that grows with an image's brightness and does not move. The spectrum takes it for detail that does. Tried on two
# untrained networks: if the edge is repeated instead, the upper layers are hardly more or less sensitive, but their prediction falls
# well below what is measured. So where the mean ratio is near one, two errors partly cancel, and in smooth networks,
# which move little, the first prevails: their prediction is too large.
#
# ## What smooth filters do
#
# Hold a layer's input fixed, and compare the prediction with its filters and without them. Their ratio is what
# these filters do. Is it smaller for smoother filters? Rank correlation over networks with the paper's normalized total
# variation:

# %% tags=["hide-input"]
in_each_layer(filters_and_change).round(2).to_frame("rank correlation").T

# %% [markdown]
# In the first layers the answer can be weak although the theory holds: variation does not see whether a filter removes
# the mean. A smooth filter whose taps sum to zero passes no slow wave, and slow waves are most of an image; it leaves a
# representation that is finer than the image. $|\hat w|^2 S$ sees it.
#
# ## What was proved by others
#
# {cite:t}`mallat2012` proved for scattering networks, which take wavelets for filters, that the representation is
# Lipschitz continuous in deformations of class $C^2$; {cite:t}`bietti2017` prove stability for convolutional kernel networks, whose
# analysis covers CNNs with ReLU. We compare in kind, not in constants. Both bound an absolute distance, as B does, and not the
# paper's ratio; both pool. Their pooling is what holds $\lVert\nabla(Wx)\rVert$ down, the place where here $V_e$ stands. Neither needs to know the images.
# C does, and in exchange it gives a number.


# %% tags=["hide-input"]
def verdict(value, threshold, yes, no):
    return yes if value >= threshold else no


last = layers[(layers["layer"] == layers["layer"].max()) & (layers["kind"] == studies[0])]
sentences = [
    "Smoothness enters the bound on how far a response is carried along, and not the bound on whether convolution and "
    "deformation commute; "
    + verdict(1, tried["largest"].max(), "no bound was violated.", "a bound was violated."),
    f"Sensitivity follows from the spectrum of the clean representation: R² {score.loc['dense bilinear', 'R2']:.2f}, "
    f"rank correlation {score.loc['dense bilinear', 'rank']:.2f} over all layers and networks, without a deformed image "
    "and without a fit.",
    f"Without the field's gradient {100 * score.loc['shifted', 'ratio']:.0f}% of it is left (geometric mean), at the last "
    f"layer of networks trained on real labels {100 * last['shifted'].mean() / last['paper'].mean():.0f}%: "
    + verdict(0.75, 1 - score.loc["shifted", "ratio"], "mostly", "only partly")
    + " the paper measures how fine a representation is.",
]
glue("fig-14-sentences", " ".join(sentences), display=False)

# %% [markdown]
# ## What was found, in three sentences
#
# {glue:text}`fig-14-sentences`
#
# What would change our mind: a network whose sensitivity the spectrum at every pixel misses by a factor of two while
# shifted images are as far from clean ones as deformed ones are; a layer in which smoother filters, from the same input, predict a larger
# sensitivity and measure a smaller one; or deformations, such as ImageNet's, under which shifts explain less than half.
