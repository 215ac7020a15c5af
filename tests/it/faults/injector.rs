//! Decides every waiting call: the n-th that counts fails, or its process is killed before it happens.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{Pid, Signal, kill_process};

use super::calls::{Point, Subject};
use super::filter::{self, Call};
use crate::support::engine::PATIENCE;
use crate::support::pace::slowed;

/// What happens to the call that is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Fail,
    /// The process ends before the call. After the call is before the next one.
    Kill,
}

/// Which call is hit.
#[derive(Debug, Clone)]
pub enum Target {
    /// The one after so many that counted.
    Number(usize),
    /// The first one whose role and text begin so, such as `init pivot_root`. Numbers move from run to run, as
    /// processes run side by side.
    Words(String),
}

#[derive(Debug)]
struct Plan {
    armed: bool,
    variant: Variant,
    /// A number is counted down; 0 is the chosen one.
    target: Target,
    passed: Vec<Point>,
    hit: Option<Point>,
}

/// Everything that a process and its descendants do passes here, until this is dropped.
#[derive(Debug)]
pub struct Injector {
    plan: Arc<Mutex<Plan>>,
    ended: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Injector {
    /// Sets `command` up to start under the filter; one of the calls after [`Injector::arm`] is hit.
    pub fn new(command: &mut Command, subject: Subject, variant: Variant, target: Target) -> Self {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
        let hand_over = move || {
            let listener = filter::install()?;
            send_fd(&theirs, &listener)
        };
        // SAFETY: between fork and exec only system calls are made, and memory is taken as std itself does there.
        unsafe { command.pre_exec(hand_over) };
        let plan = Plan { armed: false, variant, target, passed: Vec::new(), hit: None };
        let plan = Arc::new(Mutex::new(plan));
        let ended = Arc::<AtomicBool>::default();
        let server = std::thread::spawn({
            let (plan, ended) = (Arc::clone(&plan), Arc::clone(&ended));
            move || {
                // The process may not start at all.
                let Some(listener) = receive_fd(&ours) else { return };
                serve(&listener, &subject, &plan, &ended);
            }
        });
        Self { plan, ended, server: Some(server) }
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on calls count.
    pub fn arm(&self) {
        self.plan().armed = true;
    }

    /// From here on all goes well.
    pub fn disarm(&self) {
        self.plan().armed = false;
    }

    /// The call that was hit.
    pub fn hit(&self) -> Option<Point> {
        self.plan().hit.clone()
    }

    /// The calls that counted, in order.
    pub fn record(&self) -> Vec<Point> {
        self.plan().passed.clone()
    }
}

impl Drop for Injector {
    /// Whoever is still under the filter gets ENOSYS from now on, so all of them should have ended.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

fn serve(listener: &OwnedFd, subject: &Subject, plan: &Mutex<Plan>, ended: &AtomicBool) {
    let moment = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !ended.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&moment)) {
            Ok(0) | Err(_) => continue,
            Ok(_) => {}
        }
        // Nobody is left under the filter.
        if fds[0].revents().contains(PollFlags::HUP) {
            return;
        }
        if let Some(call) = filter::receive(listener.as_fd()) {
            let errno = decide(subject, plan, &call);
            filter::answer(listener.as_fd(), &call, errno);
        }
    }
}

fn decide(subject: &Subject, plan: &Mutex<Plan>, call: &Call) -> Option<i32> {
    let lock = || plan.lock().unwrap_or_else(PoisonError::into_inner);
    if !lock().armed {
        return None;
    }
    let point = subject.point(call)?;
    let mut plan = lock();
    // The pages of one transaction are whole or not there: one fault among them is as good as another.
    if point.text.starts_with("pwrite") && plan.passed.last() == Some(&point) {
        return None;
    }
    plan.passed.push(point.clone());
    if plan.hit.is_some() {
        return None;
    }
    match &mut plan.target {
        Target::Number(0) => {}
        Target::Number(left) => {
            *left -= 1;
            return None;
        }
        Target::Words(words) if point.to_string().starts_with(words.as_str()) => {}
        Target::Words(_) => return None,
    }
    plan.hit = Some(point.clone());
    match plan.variant {
        Variant::Fail => Some(point.errno),
        Variant::Kill => {
            let process = Pid::from_raw(point.process).expect("a pid");
            kill_process(process, Signal::KILL).expect("it waits for us");
            // The signal is there before the answer, so the call never happens.
            Some(libc::EINTR)
        }
    }
}

fn send_fd(socket: &UnixDatagram, fd: &OwnedFd) -> io::Result<()> {
    let fds = [fd.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let data = [io::IoSlice::new(b"f")];
    rustix::net::sendmsg(socket, &data, &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn receive_fd(socket: &UnixDatagram) -> Option<OwnedFd> {
    socket.set_read_timeout(Some(slowed(PATIENCE))).ok()?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [io::IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}
