//! Sockets in the file system that the daemon listens on.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};

use super::LinuxError;

/// Listens there, for root and its group (0660); folders above are made. A stale socket is replaced, a living one is not.
///
/// # Errors
/// Somebody listens there ([`LinuxError::InUse`]), or the kernel refuses.
pub async fn listen(path: &Path) -> Result<UnixListener, LinuxError> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(LinuxError::InUse { path: path.to_owned() });
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(LinuxError::on("make", folder))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(LinuxError::on("replace", path)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(LinuxError::on("bind", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o660))
        .map_err(LinuxError::on("set the mode of", path))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/of.sock");
        let listener = listen(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(listen(&path).await, Err(LinuxError::InUse { path: living }) if living == path));
        drop(listener);
        assert!(path.exists(), "it is stale now");
        let _again = listen(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        // A folder is nobody's socket.
        let error = listen(dir.path()).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot replace "), "{error}");
    }
}
