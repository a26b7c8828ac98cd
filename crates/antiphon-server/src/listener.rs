//! Where connections come from: binding, the file of a Unix socket, accepting.

use crate::server::StartError;
use crate::stream::Stream;
use crate::{Address, ListenOptions};
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    pub(crate) fn bind(address: &Address, options: ListenOptions) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen { address: address.clone(), error };
        match address {
            Address::Tcp(host) => {
                let resolved: Vec<SocketAddr> = host.to_socket_addrs().map_err(failed)?.collect();
                if !options.insecure && resolved.iter().any(|address| !address.ip().is_loopback()) {
                    return Err(StartError::Insecure { address: address.clone() });
                }
                let listener = std::net::TcpListener::bind(resolved.as_slice()).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Self::Tcp(TcpListener::from_std(listener)))
            }
            Address::Inside(_) => Err(failed(io::ErrorKind::Unsupported.into())),
            Address::Unix(path) => {
                clear_stale(path).map_err(failed)?;
                let listener = bind_private(path).map_err(failed)?;
                Ok(Self::Unix(UnixListener::from_std(listener), path.clone()))
            }
        }
    }

    pub(crate) fn local_address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| Address::Tcp(address.to_string())),
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
            Self::Unix(listener, _) => registry.register(listener, token, Interest::READABLE),
        }
    }

    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // A peer that is gone already shows when it is read.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener, _) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self
            && let Err(error) = fs::remove_file(&*path)
        {
            tracing::debug!(%error, path = %path.display(), "cannot remove the socket's file");
        }
    }
}

/// Removes the file of a socket that nobody listens on any more; anything else stays.
fn clear_stale(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket"));
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// Binds so that no other user can connect at any time: in a directory of our own, moved into place with mode 0600.
fn bind_private(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let private = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let bound = bind_within(&private, path);
    let removed = fs::remove_dir_all(&private);
    let listener = bound?;
    removed?;
    Ok(listener)
}

fn bind_within(private: &Path, path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let inner = private.join("s");
    let listener = std::os::unix::net::UnixListener::bind(&inner)?;
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o600))?;
    fs::rename(&inner, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
