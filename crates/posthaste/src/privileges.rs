//! Giving up root: once, after the ports are bound and before the first byte of a peer or a policy is read.
//!
//! Order: groups, gid, uid, then a check that root cannot be had back. `nix` goes through libc, which changes every thread of
//! the process; it is called before the runtime starts its own all the same.

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Group, Uid, User, geteuid, initgroups, setgid, setuid};
use ph_config::{Config, ListenAddr, options as opt};
use std::ffi::CString;

/// The users that are tried, in this order, when the configuration has no `security` stanza.
const DEFAULT_USERS: [&str; 2] = ["ecuser", "posthaste"];

/// What to become.
#[derive(Debug, PartialEq, Eq)]
pub enum Identity {
    /// Not root to begin with, or root at the configuration's word.
    Stay,
    /// Root without a user to become, allowed since only loopback listens.
    StayRootOnLoopback,
    Become {
        user: String,
        uid: Uid,
        gid: Gid,
    },
}

/// Decides before anything is opened, so that a refusal costs nothing.
pub fn plan(config: &Config) -> Result<Identity> {
    if !geteuid().is_root() {
        return Ok(Identity::Stay);
    }
    let security = config.security();
    if let Some(name) = security.user.as_deref() {
        if name == "root" {
            return Ok(Identity::Stay);
        }
        let user = find(name)?.with_context(|| format!("security: there is no user '{name}'"))?;
        let gid = match security.group.as_deref() {
            None => user.gid,
            Some(group) => {
                Group::from_name(group)?.with_context(|| format!("security: there is no group '{group}'"))?.gid
            }
        };
        return Ok(Identity::Become { user: user.name, uid: user.uid, gid });
    }
    for name in DEFAULT_USERS {
        if let Some(user) = find(name)? {
            return Ok(Identity::Become { user: user.name, uid: user.uid, gid: user.gid });
        }
    }
    if listens_on_loopback_only(config) {
        return Ok(Identity::StayRootOnLoopback);
    }
    bail!(
        "refusing to run as root: add a user 'posthaste' (adduser --system posthaste), or say in the configuration \
         which one to become: security {{ user = NAME }}"
    )
}

fn find(name: &str) -> Result<Option<User>> {
    User::from_name(name).with_context(|| format!("cannot look up the user '{name}'"))
}

fn listens_on_loopback_only(config: &Config) -> bool {
    let _ = &opt::HOSTNAME;
    config.listeners().iter().flat_map(|listener| &listener.listens).filter(|listen| listen.enabled).all(|listen| {
        match &listen.address {
            ListenAddr::Tcp(address) => address.ip().is_loopback(),
            ListenAddr::Unix(_) => true,
        }
    })
}

/// Becomes the user. Files that the process needs later belong to it already (`own`).
pub fn drop_to(identity: &Identity) -> Result<()> {
    let Identity::Become { user, uid, gid } = identity else { return Ok(()) };
    let name = CString::new(user.as_str()).context("the user's name holds a NUL")?;
    initgroups(&name, *gid).context("cannot set the supplementary groups")?;
    setgid(*gid).with_context(|| format!("cannot become the group {gid}"))?;
    setuid(*uid).with_context(|| format!("cannot become the user '{user}'"))?;
    if !uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
        bail!("root could be had back after becoming '{user}': refusing to go on");
    }
    Ok(())
}

/// Gives what root has just made to the user that will write into it; never what a link there points to.
pub fn own(identity: &Identity, path: &std::path::Path) -> Result<()> {
    if let Identity::Become { uid, gid, .. } = identity {
        std::os::unix::fs::lchown(path, Some(uid.as_raw()), Some(gid.as_raw()))
            .with_context(|| format!("cannot give {} to uid {uid}", path.display()))?;
    }
    Ok(())
}
