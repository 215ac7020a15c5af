//! Tells when somebody took away what a network needs, by rtnetlink's own notices (rtnetlink(7)) of this namespace and
//! of every one that a link of ours leads to (NETLINK_LISTEN_ALL_NSID of netlink(7)).
//!
//! A notice only means "look there". What is made or completed is no news, so that our own work makes few of them.
//! Writes of a bridge's sysctls, of which rtnetlink tells some only, come by inotify(7).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::netfilter::attributes_of;

/// `NETLINK_ROUTE`, and of linux/rtnetlink.h the groups RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE,
/// IPV4_NETCONF and IPV6_NETCONF.
const NETLINK_ROUTE: isize = 0;
const GROUPS: [u32; 7] = [1, 5, 7, 9, 11, 24, 25];
/// Types of linux/rtnetlink.h.
const NEW_LINK: u16 = 16;
const DELETED_LINK: u16 = 17;
const DELETED_ADDRESS: u16 = 21;
const DELETED_ROUTE: u16 = 25;
const NEW_NETCONF: u16 = 80;
/// Attributes: IFLA_IFNAME, IFLA_MASTER, RTA_OIF, NETCONFA_IFINDEX, NETCONFA_FORWARDING.
const NAME: u16 = 3;
const CONTROLLER: u16 = 10;
const ROUTE_DEVICE: u16 = 4;
const CONF_DEVICE: u16 = 1;
const CONF_FORWARDING: u16 = 2;
/// `NETCONFA_IFINDEX_ALL` of linux/netconf.h.
const ALL_DEVICES: i32 = -1;
/// Sizes of nlmsghdr, ifinfomsg, ifaddrmsg, rtmsg, and netconfmsg with its padding.
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ROUTE: usize = 12;
const NETCONF: usize = 4;
/// `SOL_NETLINK` and `NETLINK_LISTEN_ALL_NSID` of linux/netlink.h: the control message with a namespace's number.
const SOL_NETLINK: i32 = 270;
const LISTEN_ALL: i32 = 8;
/// The kernel's own largest datagram of notices (NLMSG_GOODSIZE) fits several times.
const ROOM: usize = 64 << 10;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// A device is gone, down, without carrier or outside a bridge.
    Device(String),
    /// The device of this number lost an address, a route or its forwarding.
    Index(u32),
    /// The machine forwards no more.
    Forwarding,
    /// The namespace that has this number here lost an address or a route.
    Inside(i32),
    /// Some notices were lost.
    Anywhere,
}

/// The notices from its making on.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<Socket>,
    sysctls: Sysctls,
}

/// The folders of bridges' sysctls that are watched.
#[derive(Debug)]
struct Sysctls {
    inotify: AsyncFd<OwnedFd>,
    /// By bridge. The open folder keeps the kernel from making another inode for it.
    folders: BTreeMap<String, (i32, File)>,
}

impl Watch {
    /// Listens in the calling thread's namespace. Needs a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        // Needs CAP_NET_BROADCAST; without it only what happens here is heard.
        if let Err(error) = socket.set_listen_all_namespaces(true) {
            tracing::debug!(%error, "what happens inside of containers' networks goes unnoticed");
        }
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let inotify = super::sys::readable_file(inotify)?;
        let sysctls = Sysctls { inotify, folders: BTreeMap::new() };
        Ok(Self { socket: super::sys::readable(socket)?, sysctls })
    }

    /// Watches the sysctls of these bridges and of no others. The calling thread must be in their namespace.
    pub fn keep(&mut self, bridges: &BTreeSet<String>) {
        let known: Vec<String> = self.sysctls.folders.keys().cloned().collect();
        for bridge in known.iter().filter(|bridge| !bridges.contains(*bridge)) {
            self.renew(bridge);
        }
        for bridge in bridges.iter().filter(|bridge| !known.contains(bridge)) {
            match self.sysctls.watch(bridge) {
                Ok(()) => {}
                // It is about to be made, which is told.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(bridge, %error, "a change of its sysctls goes unnoticed");
                }
            }
        }
    }

    /// Forgets the folder of a bridge, which the next [`Watch::keep`] finds anew: that of one made again is another.
    pub fn renew(&mut self, bridge: &str) {
        if let Some((watch, _)) = self.sysctls.folders.remove(bridge) {
            // It fails when the kernel has dropped it with the bridge.
            let _ = inotify::remove_watch(self.sysctls.inotify.get_ref(), watch);
        }
    }

    /// Returns the next notices, none of them twice. Cancel safe: nothing is kept between two calls.
    pub async fn next(&mut self) -> io::Result<BTreeSet<Notice>> {
        tokio::select! {
            // Both are cancel safe: what is not read stays in the kernel.
            notices = hear(&self.socket) => notices,
            notices = self.sysctls.next() => notices,
        }
    }
}

impl Sysctls {
    fn watch(&mut self, bridge: &str) -> io::Result<()> {
        // The folder of the calling thread's namespace, as `/proc/sys/net` is (sysctl(5)).
        let folder = File::open(format!("/proc/sys/net/ipv4/conf/{bridge}"))?;
        let path = format!("/proc/thread-self/fd/{}", folder.as_raw_fd());
        let watch = inotify::add_watch(self.inotify.get_ref(), path, WatchFlags::MODIFY)?;
        self.folders.insert(bridge.to_owned(), (watch, folder));
        Ok(())
    }

    async fn next(&self) -> io::Result<BTreeSet<Notice>> {
        loop {
            let mut ready = self.inotify.readable().await?;
            ready.clear_ready();
            let mut found = BTreeSet::new();
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
            // An error is EAGAIN: all is read.
            while let Ok(event) = events.next() {
                let of_it = |(_, (watch, _)): &(&String, &(i32, File))| *watch == event.wd();
                let bridge = self.folders.iter().find(of_it).map(|(bridge, _)| bridge.clone());
                found.extend(bridge.map(Notice::Device));
                if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                    found.insert(Notice::Anywhere);
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
}

async fn hear(socket: &AsyncFd<Socket>) -> io::Result<BTreeSet<Notice>> {
    loop {
        let mut ready = socket.readable().await?;
        match ready.try_io(|socket| receive(socket.get_ref())) {
            Ok(Ok((bytes, namespace))) => {
                let notices = notices(&bytes, namespace);
                if !notices.is_empty() {
                    return Ok(notices);
                }
            }
            Err(_) => {}
            // ENOBUFS: some notices were lost (netlink(7)).
            Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                return Ok(BTreeSet::from([Notice::Anywhere]));
            }
            Ok(Err(error)) => return Err(error),
        }
    }
}

/// Returns a datagram, and the number of its namespace unless it is ours.
fn receive(socket: &Socket) -> io::Result<(Vec<u8>, Option<i32>)> {
    let mut bytes = vec![0; ROOM];
    let mut control = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::empty();
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let namespace = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Unknown(message)
            if message.cmsg_header.cmsg_level == SOL_NETLINK
                && message.cmsg_header.cmsg_type == LISTEN_ALL =>
        {
            message.data_bytes.first_chunk().map(|number| i32::from_ne_bytes(*number))
        }
        _ => None,
    });
    let length = received.bytes;
    bytes.truncate(length);
    Ok((bytes, namespace))
}

fn notices(mut bytes: &[u8], namespace: Option<i32>) -> BTreeSet<Notice> {
    let mut found = BTreeSet::new();
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let Some(body) = usize::try_from(length).ok().and_then(|end| bytes.get(HEADER..end)) else {
            break;
        };
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        found.extend(match namespace {
            None => notice(kind, body),
            Some(number) => is_loss(kind).then_some(Notice::Inside(number)),
        });
        let next = HEADER + body.len();
        bytes = bytes.get(next.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn is_loss(kind: u16) -> bool {
    matches!(kind, DELETED_ADDRESS | DELETED_ROUTE)
}

fn notice(kind: u16, body: &[u8]) -> Option<Notice> {
    match kind {
        DELETED_LINK => name(body).map(Notice::Device),
        NEW_LINK => {
            let flags = number(body.get(8..)?)?;
            let running = u32::try_from(libc::IFF_UP | libc::IFF_LOWER_UP).unwrap_or_default();
            let is_port = attribute(body.get(LINK..)?, CONTROLLER).is_some();
            (flags & running != running || !is_port).then(|| name(body).map(Notice::Device))?
        }
        DELETED_ADDRESS => number(body.get(4..ADDRESS)?).map(Notice::Index),
        DELETED_ROUTE => number(attribute(body.get(ROUTE..)?, ROUTE_DEVICE)?).map(Notice::Index),
        NEW_NETCONF => {
            let attributes = body.get(NETCONF..)?;
            let device = number(attribute(attributes, CONF_DEVICE)?)?.cast_signed();
            let forwards = number(attribute(attributes, CONF_FORWARDING)?)? != 0;
            match (forwards, u32::try_from(device)) {
                (false, Ok(index)) => Some(Notice::Index(index)),
                (false, Err(_)) if device == ALL_DEVICES => Some(Notice::Forwarding),
                _ => None,
            }
        }
        _ => None,
    }
}

fn name(link: &[u8]) -> Option<String> {
    let name = attribute(link.get(LINK..)?, NAME)?;
    std::str::from_utf8(name.strip_suffix(&[0])?).ok().map(str::to_owned)
}

fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes_of(attributes).find(|(kind, ..)| *kind == wanted).map(|(_, value, _)| value)
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::time::Duration;

    use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

    use super::*;
    use crate::net::netlink::{self, throwaway};

    const PATIENCE: Duration = Duration::from_secs(5);

    async fn until(watch: &mut Watch, wanted: &Notice) {
        let heard = async { while !watch.next().await.unwrap().contains(wanted) {} };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        assert!(heard.is_ok(), "{wanted:?} is not told");
    }

    #[test]
    fn a_device_that_goes_and_all_that_it_loses_is_told() {
        throwaway::host(async || {
            let handle = netlink::connect().unwrap();
            let mut watch = Watch::open().unwrap();
            handle.link().add(LinkBridge::new("br7").up().build()).execute().await.unwrap();
            let index = netlink::link_index(&handle, "br7").await.unwrap();
            let address = "10.9.0.1".parse().unwrap();
            handle.address().add(index, address, 24).execute().await.unwrap();
            let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).down().build();
            handle.link().set(message).execute().await.unwrap();
            until(&mut watch, &Notice::Device("br7".to_owned())).await;
            let flush = netlink::addresses(&handle).await.unwrap();
            let ours = flush.into_iter().find(|one| one.header.index == index).unwrap();
            handle.address().del(ours).execute().await.unwrap();
            until(&mut watch, &Notice::Index(index)).await;
            netlink::write_sysctl("ipv4/ip_forward", "1").unwrap();
            netlink::write_sysctl("ipv4/ip_forward", "0").unwrap();
            until(&mut watch, &Notice::Forwarding).await;
            netlink::delete_link(&handle, "br7").await.unwrap();
            until(&mut watch, &Notice::Device("br7".to_owned())).await;
        });
    }
}
