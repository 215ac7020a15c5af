//! What the rows and the engine's own memory say must be there, and what may be.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::things::Thing;
use crate::engine::containers::Handle;
use crate::engine::core::Engine;
use crate::engine::error::EngineError;
use crate::engine::networks::Account;
use crate::engine::state::containers::{Container, Phase};
use crate::engine::state::{images, volumes};
use crate::spec::container::NetworkMode;

/// What is known of this root.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) must: BTreeSet<Thing>,
    pub(super) may: BTreeSet<Thing>,
    /// Containers and stacks that something is done to, in words.
    pub(super) busy: BTreeSet<String>,
    /// Ids of such containers: a shim of theirs may be there that nobody speaks with yet.
    pub(super) changing: BTreeSet<String>,
}

impl Wanted {
    /// Tells whether the thing may be there.
    pub(super) fn allows(&self, thing: &Thing) -> bool {
        let may = match thing {
            Thing::Shim { container, .. } => self.changing.contains(container),
            _ => false,
        };
        may || self.must.contains(thing) || self.may.contains(thing)
    }
}

impl Engine {
    pub(super) fn wanted_things(&self) -> Result<Wanted, EngineError> {
        let mut wanted = Wanted::default();
        let account = self.network_account();
        let handles = self.handles();
        for handle in &handles {
            self.want_container(&mut wanted, handle);
        }
        if !handles.is_empty() {
            wanted.may.insert(Thing::Cgroup(self.paths.cgroup_parent()));
        }
        self.want_network(&mut wanted, &account);
        for volume in self.read(volumes::list)? {
            let data = self.paths.volume_data(&volume.name);
            wanted.may.insert(Thing::Mount(data.clone()));
            wanted.may.extend(data.parent().map(|folder| Thing::File(folder.to_owned())));
        }
        wanted.must.extend(self.store.images()?.iter().map(|id| Thing::Image(id.to_string())));
        for tag in self.read(images::list)? {
            wanted.must.insert(Thing::Image(tag.image_id));
        }
        for stack in self.stacks_at_work() {
            wanted.may.insert(Thing::File(self.paths.at_work().join(&stack)));
            wanted.busy.insert(format!("stack {stack}"));
        }
        Ok(wanted)
    }

    fn want_container(&self, wanted: &mut Wanted, handle: &Arc<Handle>) {
        let row = handle.row();
        let shim = handle.shim();
        let is_busy = row.phase.is_intent() || handle.verb.try_lock().is_err();
        let folder = Thing::File(self.paths.container(&row.id));
        let cgroup = Thing::Cgroup(self.cgroup_of(&row));
        let sandbox = Thing::Sandbox(row.id.clone());
        wanted.may.insert(Thing::File(self.paths.container_run(&row.id)));
        let runs = matches!(row.phase, Phase::Running | Phase::Paused);
        let at = if is_busy { &mut wanted.may } else { &mut wanted.must };
        at.insert(folder);
        if let Some(shim) = &shim {
            at.insert(Thing::Shim { container: row.id.clone(), pid: shim.pid() });
        }
        if runs && !is_busy {
            wanted.must.insert(cgroup);
        } else if is_busy || shim.is_some() {
            wanted.may.insert(cgroup);
        }
        let alone = row.spec.network_mode == NetworkMode::None;
        if alone && runs && !is_busy {
            wanted.must.insert(sandbox);
        } else if is_busy || self.is_joined(&row) {
            wanted.may.insert(sandbox);
        }
        if is_busy {
            wanted.busy.insert(format!("container {}", row.name));
            wanted.changing.insert(row.id.clone());
        }
    }

    /// Whether another container runs in the sandbox of this one.
    fn is_joined(&self, row: &Container) -> bool {
        self.handles().iter().any(|other| {
            let other = other.row();
            matches!(
                other.phase,
                Phase::Running | Phase::Paused | Phase::Starting | Phase::Stopping
            ) && matches!(&other.spec.network_mode, NetworkMode::Container(id) if *id == row.id)
        })
    }

    fn want_network(&self, wanted: &mut Wanted, account: &Account) {
        wanted.must.extend(account.links.iter().cloned().map(Thing::Link));
        wanted.may.extend(account.leaving_links.iter().cloned().map(Thing::Link));
        wanted.must.extend(account.rules.iter().cloned().map(Thing::Rule));
        let port = |(address, protocol): &_| Thing::Port { address: *address, protocol: *protocol };
        wanted.must.extend(account.ports.iter().map(port));
        for id in &account.connected {
            wanted.must.insert(Thing::Sandbox(id.clone()));
            wanted.must.insert(Thing::Resolver(id.clone()));
        }
        for id in &account.leaving {
            wanted.may.insert(Thing::Sandbox(id.clone()));
            wanted.busy.insert(format!("network of container {id}"));
        }
        if !account.connected.is_empty()
            && let Some(pid) = self.netd_pid()
        {
            wanted.may.insert(Thing::Netd { pid: pid.cast_signed() });
        }
    }
}
