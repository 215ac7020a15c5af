//! Connections to rtnetlink, here or inside another network namespace.
//!
//! A thread enters the namespace for good and ends there: a worker thread that failed to come back would run other
//! work in the wrong namespace.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, State};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinHandle;

#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a netlink socket")]
    Open { source: io::Error },
    #[error("cannot {action}")]
    Request { action: String, source: rtnetlink::Error },
    #[error("there is no link {link}")]
    NoLink { link: String },
    #[error("cannot open namespace {}", path.display())]
    OpenNamespace { path: PathBuf, source: io::Error },
    #[error("cannot enter namespace {}", path.display())]
    EnterNamespace { path: PathBuf, source: io::Error },
    #[error("cannot start a thread for a namespace")]
    Thread { source: io::Error },
    #[error("cannot read or write {}", path.display())]
    Sysctl { path: PathBuf, source: io::Error },
}

/// A connection that lasts. One that failed, by a full queue say, is replaced when it is next used: its task ends at
/// the first error, and every request after it would fail too.
#[derive(Debug)]
pub struct Connection(Mutex<(Handle, JoinHandle<()>)>);

impl Connection {
    /// Opens it in the calling thread's namespace. Needs a tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self(Mutex::new(open()?)))
    }

    /// Returns a handle that works now.
    pub fn handle(&self) -> Result<Handle, NetlinkError> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1.is_finished() {
            *current = open()?;
        }
        Ok(current.0.clone())
    }
}

fn open() -> Result<(Handle, JoinHandle<()>), NetlinkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| NetlinkError::Open { source })?;
    Ok((handle, tokio::spawn(connection)))
}

/// Opens a connection in the calling thread's namespace. Needs a tokio runtime.
pub fn connect() -> Result<Handle, NetlinkError> {
    open().map(|(handle, _)| handle)
}

/// Runs `work` on a thread of its own inside the network namespace pinned at `path`.
pub async fn inside<Work, Ran, Output, Failure>(path: &Path, work: Work) -> Result<Output, Failure>
where
    Work: FnOnce() -> Ran + Send + 'static,
    Ran: Future<Output = Result<Output, Failure>>,
    Output: Send + 'static,
    Failure: From<NetlinkError> + Send + 'static,
{
    let namespace = File::open(path)
        .map_err(|source| NetlinkError::OpenNamespace { path: path.to_owned(), source })?;
    let path = path.to_owned();
    on_thread(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NetlinkError::EnterNamespace { path, source: errno.into() })?;
        block_on(work)
    })
    .await
}

/// Runs `work` on a thread of its own in the caller's namespace, for requests that the kernel is slow to answer.
pub async fn apart<Work, Ran, Output, Failure>(work: Work) -> Result<Output, Failure>
where
    Work: FnOnce() -> Ran + Send + 'static,
    Ran: Future<Output = Result<Output, Failure>>,
    Output: Send + 'static,
    Failure: From<NetlinkError> + Send + 'static,
{
    on_thread(move || block_on(work)).await
}

fn block_on<Work, Ran, Output, Failure>(work: Work) -> Result<Output, Failure>
where
    Work: FnOnce() -> Ran,
    Ran: Future<Output = Result<Output, Failure>>,
    Failure: From<NetlinkError>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| NetlinkError::Thread { source })?;
    runtime.block_on(work())
}

/// Runs `work` on a fresh thread, which ends with it.
pub async fn on_thread<Output, Failure>(
    work: impl FnOnce() -> Result<Output, Failure> + Send + 'static,
) -> Result<Output, Failure>
where
    Output: Send + 'static,
    Failure: From<NetlinkError> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            // The receiver is gone when the caller was cancelled; then nobody wants the answer.
            drop(sender.send(work()));
        })
        .map_err(|source| NetlinkError::Thread { source })?;
    match receiver.await {
        Ok(result) => result,
        Err(_) => {
            Err(NetlinkError::Thread { source: io::Error::other("the thread panicked") }.into())
        }
    }
}

/// Returns the link of this name, or `None`.
pub async fn find_link(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, NetlinkError> {
    let mut links = handle.link().get().match_name(name).execute();
    match links.try_next().await {
        Ok(Some(link)) => Ok(Some(link)),
        // The kernel answers with a link or an error: the connection failed, which its streams don't tell.
        Ok(None) => Err(unanswered(format!("look for link {name}"))),
        Err(error) if is_errno(&error, libc::ENODEV) => Ok(None),
        Err(source) => {
            Err(NetlinkError::Request { action: format!("look for link {name}"), source })
        }
    }
}

/// Lists that are under way. A second one on the same socket is refused (EBUSY of `netlink_dump_start`), and handles
/// of one connection share its socket.
static LISTS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Returns all links.
pub async fn links(handle: &Handle) -> Result<Vec<LinkMessage>, NetlinkError> {
    let alone = LISTS.lock().await;
    let links = handle.link().get().execute().try_collect().await;
    drop(alone);
    let links: Vec<LinkMessage> = links
        .map_err(|source| NetlinkError::Request { action: "list the links".to_owned(), source })?;
    match links.is_empty() {
        // Every namespace has its loopback.
        true => Err(unanswered("list the links".to_owned())),
        false => Ok(links),
    }
}

/// Fails when a request before it was not answered: a connection that failed ends its streams as if all had been told,
/// and takes no request any more. Whatever changes something ends with this, or with an answer that it needs.
pub async fn confirm(handle: &Handle) -> Result<(), NetlinkError> {
    let mut loopback = handle.link().get().match_index(1).execute();
    let failed =
        |source| NetlinkError::Request { action: "hear the kernel's answer".into(), source };
    match loopback.try_next().await {
        Ok(Some(_)) => Ok(()),
        // Only a connection that failed says nothing.
        Ok(None) => Err(failed(rtnetlink::Error::RequestFailed)),
        Err(source) => Err(failed(source)),
    }
}

fn unanswered(action: String) -> NetlinkError {
    NetlinkError::Request { action, source: rtnetlink::Error::RequestFailed }
}

/// Returns the names of all links.
pub async fn link_names(handle: &Handle) -> Result<Vec<String>, NetlinkError> {
    let names =
        links(handle).await?.into_iter().flat_map(|link| link.attributes).filter_map(|attribute| {
            match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            }
        });
    Ok(names.collect())
}

/// Returns all addresses.
pub async fn addresses(handle: &Handle) -> Result<Vec<AddressMessage>, NetlinkError> {
    let alone = LISTS.lock().await;
    let addresses = handle.address().get().execute().try_collect().await;
    drop(alone);
    let addresses = addresses.map_err(|source| NetlinkError::Request {
        action: "list the addresses".to_owned(),
        source,
    })?;
    confirm(handle).await?;
    Ok(addresses)
}

/// Returns all unicast routes of both families, of all tables but `local`.
pub async fn all_routes(handle: &Handle) -> Result<Vec<RouteMessage>, NetlinkError> {
    let requests = [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ];
    let mut found = Vec::new();
    let alone = LISTS.lock().await;
    for request in requests {
        let routes: Vec<RouteMessage> =
            handle.route().get(request).execute().try_collect().await.map_err(|source| {
                NetlinkError::Request { action: "list the routes".to_owned(), source }
            })?;
        found.extend(routes.into_iter().filter(|route| route.header.kind == RouteType::Unicast));
    }
    drop(alone);
    confirm(handle).await?;
    Ok(found)
}

/// Returns where a route leads; `None` for a default route.
pub fn destination(route: &RouteMessage) -> Option<IpNet> {
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    IpNet::new(destination?, route.header.destination_prefix_length).ok()
}

/// Returns the subnets that the routes lead to, of all tables but `local`, default routes aside.
pub async fn routes(handle: &Handle) -> Result<Vec<IpNet>, NetlinkError> {
    let routes = all_routes(handle).await?;
    // The two halves of everything stand for a default route, as a VPN sets them.
    let routes = routes.iter().filter_map(destination);
    Ok(routes.filter(|route| route.prefix_len() > 1).collect())
}

/// Returns the index of the link of this name.
pub async fn link_index(handle: &Handle, name: &str) -> Result<u32, NetlinkError> {
    let link = find_link(handle, name).await?;
    link.map(|link| link.header.index).ok_or_else(|| NetlinkError::NoLink { link: name.to_owned() })
}

/// Deletes a link; a missing one is fine.
pub async fn delete_link(handle: &Handle, name: &str) -> Result<(), NetlinkError> {
    let Some(link) = find_link(handle, name).await? else {
        return Ok(());
    };
    match handle.link().del(link.header.index).execute().await {
        Err(error) if !is_errno(&error, libc::ENODEV) => {
            Err(NetlinkError::Request { action: format!("delete link {name}"), source: error })
        }
        _ => confirm(handle).await,
    }
}

/// Sets a link up.
pub async fn set_up(handle: &Handle, index: u32) -> Result<(), NetlinkError> {
    let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
    let set = handle.link().set(message).execute().await;
    set.map_err(|source| NetlinkError::Request { action: format!("set link {index} up"), source })?;
    confirm(handle).await
}

/// Waits until a link may carry packets. The kernel activates a link's queue, and a bridge its port, some time after
/// the carrier came; before that the first packets are lost and TCP tries again only after a second. Since Linux 6.8
/// asking is enough: the answer is given after the activation.
pub async fn wait_for_carrier(handle: &Handle, name: &str) -> Result<(), NetlinkError> {
    let deadline = tokio::time::Instant::now() + CARRIER_PATIENCE;
    loop {
        let link = find_link(handle, name)
            .await?
            .ok_or_else(|| NetlinkError::NoLink { link: name.to_owned() })?;
        let carries = link
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, LinkAttribute::OperState(State::Up)));
        // A link that stays down hurts nobody but its own container, whose connections then say so.
        if carries || tokio::time::Instant::now() >= deadline {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Makes an IPv6 address usable at once: our allocator owns the subnet, so duplicate detection buys nothing
/// (IFA_F_NODAD of rtnetlink(7)).
pub fn skip_duplicate_detection(message: &mut AddressMessage) {
    if message.header.family == AddressFamily::Inet6 {
        message.header.flags |= AddressHeaderFlags::Nodad;
    }
}

const CARRIER_PATIENCE: Duration = Duration::from_secs(1);

/// Tells whether the kernel answered with this errno.
pub fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}

/// Reads a sysctl of the calling thread's network namespace, see [`write_sysctl`].
pub fn read_sysctl(name: &str) -> Result<String, NetlinkError> {
    let path = Path::new("/proc/sys/net").join(name);
    std::fs::read_to_string(&path).map_err(|source| NetlinkError::Sysctl { path, source })
}

/// Writes a sysctl of the calling thread's network namespace: `/proc/sys/net` shows the reader's own (sysctl(5)).
pub fn write_sysctl(name: &str, value: &str) -> Result<(), NetlinkError> {
    let path = Path::new("/proc/sys/net").join(name);
    std::fs::write(&path, value).map_err(|source| NetlinkError::Sysctl { path, source })
}

#[cfg(test)]
pub(crate) mod throwaway {
    //! A network namespace that plays host for one test.

    use std::future::Future;

    use nix::sched::{CloneFlags, unshare};

    /// Runs `test` on a thread in a fresh network namespace with lo up; `None` (with the reason on stderr) without
    /// the right to make one.
    pub(crate) fn host<Ran: Future<Output = ()>>(test: impl FnOnce() -> Ran + Send + 'static) {
        let thread = std::thread::spawn(move || {
            if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
                eprintln_skip(errno);
                return;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime needs no right").block_on(async {
                let handle = super::connect().expect("netlink is always there");
                super::set_up(&handle, 1).await.expect("lo has index 1");
                test().await;
            });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn eprintln_skip(errno: nix::Error) {
        eprintln!("skipped: cannot unshare a network namespace: {errno}");
    }
}
