# SPDX-License-Identifier: GPL-2.0-or-later
"""A Nova driver whose servers are entries of a table: ACTIVE at once, and nobody there.

Nova's own such driver never finishes a snapshot; this one gives Glance some bytes.
"""

import io

from nova.compute import task_states
from nova.image import glance
from nova.virt import fake


class Driver(fake.SmallFakeDriver):
    vcpus, memory_mb, local_gb = 8, 8192, 1028

    def snapshot(self, context, instance, image_id, update_task_state):
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        update_task_state(
            task_state=task_states.IMAGE_UPLOADING,
            expected_state=task_states.IMAGE_PENDING_UPLOAD,
        )
        kept = {"disk_format": "raw", "container_format": "bare", "status": "active"}
        glance.API().update(context, image_id, kept, data=io.BytesIO(b"a disk"))
