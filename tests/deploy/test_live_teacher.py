"""Teachers without their caches, as nets of raw or normalised images."""

import pytest
import torch
from support import built

from kd.data.normalise import Normalise
from kd.deploy.live_teacher import LiveTeacher
from kd.errors import UserError
from kd.taps import Taps
from kd.teachers.cached import CachedTeacher
from kd.teachers.ensemble import EnsembleTeacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.renormalise import Renormalise

NORMALISATION = [0.3], [0.4]
IMAGES = torch.arange(6 * 64, dtype=torch.int64).remainder(256).to(torch.uint8).view(6, 1, 8, 8)


def frozen(seed, name="resnet8", renormalise=None):
    torch.manual_seed(seed)
    net, taps = built(name, width=0.5)
    return FrozenTeacher(net, taps, [], renormalise)


def embedding(live, images):
    return Taps(live, live.taps, ["embedding"]).outputs(images).taps["embedding"]


@torch.no_grad()
@pytest.mark.parametrize("cached", [False, True])
def test_a_single_net(cached):
    teacher = frozen(0)
    net = teacher.net
    # No cache is read: the images need not be of any data set.
    whole = CachedTeacher(teacher, None, torch.float16, 8) if cached else teacher  # type: ignore
    live = LiveTeacher(whole, NORMALISATION)
    floats = Normalise(*NORMALISATION)(IMAGES)
    assert live(IMAGES).equal(net(floats))
    assert live(floats).equal(net(floats))
    assert torch.allclose(net.fc(embedding(live, IMAGES)), net(floats))


@torch.no_grad()
def test_a_teacher_of_another_normalisation_gets_its_own():
    own = [0.5], [0.5]
    teacher = frozen(0, renormalise=Renormalise(NORMALISATION, own))
    expected = teacher.net(Normalise(*own)(IMAGES))
    assert torch.allclose(LiveTeacher(teacher, NORMALISATION)(IMAGES), expected, atol=1e-4)


@torch.no_grad()
def test_an_ensemble_has_the_combined_logits_and_the_embedding_of_one_member():
    members = {"a": frozen(0), "b": frozen(1, "resnet14")}
    floats = Normalise(*NORMALISATION)(IMAGES)
    each = [member.net(floats).softmax(1) for member in members.values()]
    alone = LiveTeacher(EnsembleTeacher(members, weighting="confidence"), NORMALISATION)
    assert torch.allclose(alone(IMAGES).softmax(1), sum(each) / 2, atol=1e-6)
    assert alone.taps == {}
    featured = LiveTeacher(EnsembleTeacher(members, features="b"), NORMALISATION)
    found = embedding(featured, IMAGES)
    assert torch.allclose(members["b"].net.fc(found), members["b"].net(floats), atol=1e-5)


def test_raw_images_need_a_known_normalisation():
    live = LiveTeacher(frozen(0), None)
    assert live(IMAGES.float()).shape == (6, 10)
    with pytest.raises(UserError, match="mean and std are not known"):
        live(IMAGES)
