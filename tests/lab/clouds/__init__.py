# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's clouds: moto and mimic, with a real node behind each instance.

The fixtures `ec2_cloud` and `openstack_cloud` (session; `ec2` and `openstack` are the same,
empty before and after a test) give a `cloud.Cloud`:

- `url` of the API, with the credentials in `ec2` and `openstack`; `image_id` of the stock image
  and `manifest`, its signed manifest (the key is ``lab.manifest_key``);
- `write_config(path)`: mock's configuration directory whose repository the nodes reach;
- `nodes()`, `node(instance)`: machines with `address`, `state`, `console`, `stop()`, `kill()`,
  `set_link(up)`; `add_image(tree, name)` offers another tree;
- `faults.add(fault, on="RunInstances", times=1, skip=0, when={parameter: value}, for_s=None)`,
  lifted by what it returns; `faults.shake(seed, rate, kinds)`; the kinds are in `faults`, those
  in a provider's own words in `ec2_xml` and `openstack_json`, and `ec2_cloud.dying(code, text)`;
- `calls.count(operation)`: an action of EC2's, or a method and a path as ``POST /servers``;
- `listing()`: what exists according to the cloud itself; `reset()` deletes it.

A node boots a copy of its image's disk in namespaces of its own, with an address on a network that
this machine's own namespace reaches. Its first process runs cloud-init's stages, which read
user-data from a metadata service at 169.254.169.254, then sshd. It ends when the API
terminates it, when it powers itself off, and with the process that made the cloud.
"""
