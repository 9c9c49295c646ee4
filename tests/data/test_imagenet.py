"""Names of ImageNet's classes, against TFDS's identifiers and a few that everyone knows."""

from pathlib import Path

import tensorflow_datasets as tfds

from nfnets.data.imagenet import imagenet_names, readable_names


def test_the_order_is_that_of_the_labels_in_tfds():
    labels = Path(tfds.__file__).parent / 'datasets' / 'imagenet2012' / 'labels.txt'
    assert list(imagenet_names()) == labels.read_text().split()


def test_labels_have_the_words_that_they_are_known_by():
    names = readable_names(None, 1000)
    known = {
        0: 'tench',
        207: 'golden retriever',
        281: 'tabby',
        457: 'bow tie',
        817: 'sports car',
        999: 'toilet tissue',
    }
    for label, word in known.items():
        assert names[label].startswith(word)


def test_identifiers_become_words_and_other_names_stay():
    assert readable_names(('n01440764', 'my cat'), 2) == ('tench, Tinca tinca', 'my cat')
    assert readable_names(None, 2) == ('class 0', 'class 1')
