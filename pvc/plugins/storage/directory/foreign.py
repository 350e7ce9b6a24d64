"""Files of this node that become volumes. Judged by their bytes before a program opens them, and opened as what these
say: a program that found out for itself would follow what the file says to other files."""

from pvc.core.storage import Image, StorageError
from pvc.plugins.storage.directory import imagefiles
from pvc.plugins.storage.directory.decide.images import format_by, image_in, why_no_image
from pvc.plugins.storage.directory.qemuimg import QemuImg


def look_at(path: str, qemu_img: QemuImg) -> Image:
    """What a file is, raw or qcow2. Raises StorageError if it cannot be loaded."""
    if not path.startswith("/"):
        raise StorageError(f"{path} is no whole path; begin it with /")
    beginning, end, size = imagefiles.ends(path)
    if why := why_no_image(beginning, end, size):
        raise StorageError(f"{path} {why}")
    return image_in(qemu_img.info(path, format_by(beginning)))
