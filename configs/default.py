"""Every setting there is, with the paper's ImageNet recipe as its value (arXiv 2102.06171, appendix A).

Other files in this folder are deltas. A setting that is None follows from others once the command line is
read (`nfnets/config.py`), so that `--config.train.batch_size=1024` also gives the right learning rate and
number of steps; given explicitly, it stays as given.
"""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
    """The complete config, locked: a delta that names another key is an error."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # Of initial parameters, order of examples, augmentation and dropout.
    config.task = 'classification'  # Or detection: boxes and masks by Mask R-CNN, of a set in COCO format.
    config.init_from = placeholder(str)  # Path or name of a checkpoint: a new run starts from its parameters.
    config.rewind_from = placeholder(str)  # RUN or RUN@STEP: a run of another length starts from that state.

    config.model = model = ml_collections.ConfigDict()
    model.name = 'NFNet'  # NFNet, BNNet, NFResNet, NFRegNet, ResNet, SkipInitResNet or FixupResNet.
    model.variant = 'F0'  # F0 .. F7+, B0 .. B8 of NFRegNet, ResNet50 .. ResNet600, timm's: sets what is None.
    model.widths = placeholder(tuple)  # Channels of each stage.
    model.depths = placeholder(tuple)  # Blocks of each stage.
    model.group_width = placeholder(int)  # Channels of a group in the 3x3 convolutions, but of ResNets.
    model.second_conv = True  # Two 3x3 convolutions in each block of NFNet and BNNet.
    model.activation = placeholder(str)  # gelu, relu or silu; None: the variant's.
    model.scan = False  # Scan over the blocks of a stage that are alike: compiles once, runs slower on a CPU.
    model.remat = False  # Rematerialize blocks in the backward pass; on a CPU needs model.scan.
    model.dropout_rate = placeholder(float)  # Of the pooled features, 0..1.
    model.stochastic_depth_rate = 0.25  # Fraction of branches dropped at the far end, 0..1.
    model.num_classes = placeholder(int)  # None: as many as the data has.

    config.data = data = ml_collections.ConfigDict()
    data.source = 'tfds'  # tfds (a prepared TensorFlow data set), folder, webdataset (tars), digits; or coco.
    data.name = 'imagenet2012'  # Name of the TensorFlow data set.
    data.dir = placeholder(str)  # TFDS's data_dir; what holds train/ and val/, or the tars. May be gs://.
    data.train_split = 'train'  # In TFDS's syntax; a folder's name under `dir`; or tars, 'a-{0..9}.tar'.
    data.eval_split = 'validation'  # To evaluate on; named as data.train_split.
    # Sources to train on instead, by names of your own, with fields source, name, dir, split and weight; but
    # for the last, those not given are as above. Weights are parts of the images; None: all count alike.
    data.mixture = ml_collections.ConfigDict()  # {NAME: {FIELD: VALUE}}, or flags data.mixture.NAME.FIELD.
    # Sizes, margin and style that are None are those of the checkpoint that is evaluated or started from, if
    # it knows them; else they follow from the variant.
    data.train_size = placeholder(int)  # Side of training images, px.
    data.eval_size = placeholder(int)  # Side of evaluation images, px.
    data.eval_margin = placeholder(int)  # Evaluation resizes to so much more, then crops, px; the paper: 32.
    data.eval_style = placeholder(str)  # 'paper', 'timm' (of its F0 to F6), 'timm_center' (its own networks).
    data.crop_area = (0.08, 1.0)  # Least and most of an image that a training crop covers.
    data.repeats = 1  # Crops of each image that a batch holds; as many steps then take fewer passes.
    data.flip = True  # Mirror half of the training images.
    data.skip_broken = False  # Skip and count images that are broken or labeled wrong, instead of stopping.

    config.augment = augment = ml_collections.ConfigDict()
    augment.mixup_alpha = 0.2  # Of Beta(alpha, alpha); 0: no MixUp.
    augment.cutmix = True  # On half of the batch, MixUp on the other; on all if there is no MixUp.
    augment.partners = 'fresh'  # Mix with: 'fresh' images, decoded for it, or others of the 'batch'.
    augment.randaugment_layers = 4  # Operations on each image; 0: none.
    augment.randaugment_magnitude = placeholder(int)  # Strength, 0..30.

    config.train = train = ml_collections.ConfigDict()
    train.batch_size = 4096  # Images a step, over all devices of all hosts.
    train.accumulate_steps = 1  # Parts that each device's batch is computed in, to save memory.
    train.epochs = 360.0  # Length of the run, in passes over the training split, times data.repeats.
    train.steps = placeholder(int)  # Length of the run in steps, instead of epochs.
    train.precision = 'bfloat16'  # Of activations and gradients in training; or 'float32'.
    train.all_reduce = 'float32'  # What gradients are summed over devices in; 'bfloat16' sends half as much.
    train.shard_optimizer = False  # Momentum and EMA lie split over all devices: less memory on each.
    train.loss = 'softmax'  # One distribution over the classes; 'sigmoid': each is there or not, by itself.
    train.label_smoothing = 0.1  # Fraction of the target spread over all classes, 0..1.
    train.log_every_steps = 100  # Steps between logged metrics.

    config.optimizer = optimizer = ml_collections.ConfigDict()
    optimizer.learning_rate_per_256 = 0.1  # Peak rate for each 256 images of the batch.
    optimizer.learning_rate = placeholder(float)  # Peak rate, instead.
    optimizer.warmup_epochs = 5.0  # Linear from 0; then a cosine to 0 at the end.
    optimizer.warmup_steps = placeholder(float)  # The same in steps, instead.
    optimizer.drops = ()  # Instead of the cosine: fractions of the run after which the rate falls to a tenth.
    optimizer.momentum = 0.9  # Nesterov momentum, 0..1.
    optimizer.weight_decay = 2e-5  # Not on gains, biases and skip gains.
    optimizer.agc_clipping = 0.01  # Largest gradient norm to parameter norm of a unit; inf: no clipping.
    optimizer.agc_eps = 1e-3  # Least parameter norm that a unit counts with.
    optimizer.agc_skip = '^[^/]+/~/linear/w$'  # Regular expression of what AGC leaves alone: 'module/name'.
    optimizer.max_grad_norm = float('inf')  # Norm of all gradients together, at most; before AGC.
    optimizer.lars_trust = 0.0  # Trust coefficient of LARS; 0: no LARS.
    optimizer.ema_decay = 0.99999  # What the decay of the EMA of the parameters grows to.
    optimizer.freeze = ''  # Regular expression of parameters 'module/name' that stay as they are.

    # Of task='detection' alone; sizes are those of TensorFlow's Model Garden for images of 1024 px.
    config.detection = detection = ml_collections.ConfigDict()
    detection.scales = (0.8, 1.25)  # Least and most of a training image's longer side, in data.train_size.
    detection.most_objects = 100  # Of a training image; those there is no room for are dropped, and counted.
    detection.channels = 256  # Of the feature pyramid, and of the heads' convolutions.
    detection.hidden = 1024  # Units of each of two layers of the box head.
    detection.anchor_scale = 8.0  # Side of a level's anchors, in its stride: 8 gives 32 to 512 px.
    detection.most_of_level = 2000  # Anchors kept of each level before NMS.
    detection.proposals = 1000  # Proposals kept for each image after NMS.
    detection.regions = 512  # Sampled of each image to train its heads; its mask head on a quarter of them.
    detection.detections = 100  # Most objects found in an image, after NMS.

    config.sam = sam = ml_collections.ConfigDict()
    sam.rho = 0.0  # Length of the step up to a sharper point, in the parameters' unit; 0: no SAM.
    sam.ascent_fraction = 0.2  # Fraction of each device's batch, or of each of its parts, for the ascent.

    config.eval = evaluation = ml_collections.ConfigDict()
    evaluation.batch_size = placeholder(int)  # Images in a batch, over all devices; None: 32 on each.
    evaluation.every_epochs = 5.0  # Between evaluations; there is always one at the end.
    evaluation.every_steps = placeholder(int)  # The same in steps, instead.

    # Few-shot accuracy of ridge regression on the pooled features of the EMA, at each evaluation.
    config.probe = probe = ml_collections.ConfigDict()
    probe.source = placeholder(str)  # As data.source, of whatever classes; None: no probes.
    probe.name = placeholder(str)  # As data.name.
    probe.dir = placeholder(str)  # As data.dir.
    probe.train_split = 'train'  # Some of each class to learn from; chosen once, always the same.
    probe.eval_split = 'validation'  # All to be evaluated on.
    probe.shots = (1, 5, 10, 25)  # Images of each class, for each probe.
    probe.linear = False  # One more that learns from all of train_split: the linear probe.

    config.checkpoint = checkpoint = ml_collections.ConfigDict()
    checkpoint.every_steps = 1000  # Between checkpoints; there is always one at the end.
    checkpoint.keep = 3  # The last so many are kept.
    config.lock()
    config.data.mixture.unlock()  # It takes any names.
    return config
