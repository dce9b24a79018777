"""All baselines that apply to a data set.

Shape letters: `N` images, `C` colours, `H` rows, `W` columns, `K` levels.
"""

from pixelrnn.evaluation.baselines.baseline import Baseline, Images, check_images, check_train
from pixelrnn.evaluation.baselines.distributions import gaussian, independent_pixels, uniform, why_no_gaussian
from pixelrnn.evaluation.baselines.file_formats import FORMATS, sheets, single_files, why_no_file

__all__ = ["all_baselines", "left_out"]


def all_baselines(train: Images, test: Images, levels: int, *, limit: int | None = 1000) -> list[Baseline]:
    """Every baseline that applies; `left_out` tells which do not, and why.

    Args:
        train: (N, C, H, W), the images to fit.
        test: (N', C, H, W), the images to measure.
        levels: K, size of the alphabet.
        limit: the most images given to the file formats, evenly spaced over `test`; None for all.

    Returns:
        The measured baselines, models first.

    Raises:
        ValueError: images of the wrong type or of two shapes, symbols out of range, or a `limit` below 1.
    """
    check_images(test, levels, "test")
    check_train(train, test, levels)
    reasons = left_out(train)
    measured = [uniform(test, levels), independent_pixels(train, test, levels)]
    if "Gaussian" not in reasons:
        measured.append(gaussian(train, test, levels))
    for file_format in FORMATS:
        if file_format not in reasons:
            measured.append(single_files(file_format, test, levels, limit=limit))
            measured.append(sheets(file_format, test, levels, limit=limit))
    return measured


def left_out(train: Images) -> dict[str, str]:
    """Names of the baselines that do not apply when `train`, (N, C, H, W), is fitted → the reasons."""
    images, colours, height, width = train.shape
    reasons = {"Gaussian": why_no_gaussian(images, colours * height * width)}
    for file_format in FORMATS:
        reason = why_no_file(file_format, colours, height, width)
        reasons |= {file_format: reason, f"{file_format} sheet": reason}
    return {name: reason for name, reason in reasons.items() if reason}
