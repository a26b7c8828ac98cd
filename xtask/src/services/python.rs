//! Python with packages from PyPI, in an environment of its own under the target directory: for examples of other clients.

use super::place::{directory, run};
use super::rabbitmq::install_is_allowed;
use anyhow::Context;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

/// The interpreter of an environment that has `package`; made if it is new.
///
/// # Errors
/// When there is no Python and none may be installed, or PyPI cannot be reached.
pub fn with(package: &str) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(directory())?;
    let lock = File::create(directory().join(".python.lock"))?;
    lock.lock().context("locking the Python environment")?;
    // Beside the nodes, so that it is not thrown away with them.
    let environment = directory().with_file_name("python");
    let (interpreter, has) = (environment.join("bin/python"), environment.join(format!("has-{package}")));
    if has.exists() {
        return Ok(interpreter);
    }
    let make = || run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    if let Err(error) = make() {
        // Debian ships the module in a package of its own.
        anyhow::ensure!(install_is_allowed(), "making a Python environment: {error:#}");
        let install = ["install", "--no-install-recommends", "python3", "python3-venv"];
        run(Command::new("apt-get").args(["-qq", "update"]))?;
        run(Command::new("apt-get").args(["-qq", "-y"]).args(install).env("DEBIAN_FRONTEND", "noninteractive"))?;
        make()?;
    }
    run(Command::new(&interpreter).args(["-m", "pip", "install", "--quiet", package]))
        .with_context(|| format!("installing {package} from PyPI"))?;
    fs::write(has, "")?;
    Ok(interpreter)
}
