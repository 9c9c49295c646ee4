"""What stands under images."""

import numpy as np

from nfnets.html_report import sheets
from nfnets.html_report.images import TrainingImage
from nfnets.html_report.mistakes import Mistake

NAMES = ('cat, tabby', 'dog')
PIXELS = np.zeros((8, 8, 3), np.uint8)


def _captions(elements):
    return [[''.join(one.itertext()) for one in e] for part in elements for e in part.iter('figcaption')]


def test_misclassified_images_have_their_probabilities_however_sure():
    worst = [Mistake(PIXELS, (0,), 1, 1.0, 0.0, 'x'), Mistake(PIXELS, (1,), 0, 0.6, 0.4, 'y')]
    assert _captions(sheets.mistakes(worst, NAMES)) == [
        ['is cat 0%', 'as dog 100%'],
        ['is dog 40%', 'as cat 60%'],
    ]


def test_training_images_have_the_weights_of_what_is_mixed_alone():
    images = [TrainingImage(PIXELS, {0: 1.0}), TrainingImage(PIXELS, {0: 0.25, 1: 0.75})]
    assert _captions(sheets.training_sheet(images, 2, NAMES)) == [['cat'], ['cat 25%', 'dog 75%']]
