//! Real events in at one end, answers out at the other: `cargo run --example pipeline`.
//!
//! Seven steps through all crates: read, stream, deliver, alert, discover, ask, prove. Run again on the same store it takes up only
//! what is new; killed at any moment and run again, it goes on where it was. The steps stand in `examples/src/pipeline/`.

use std::process::ExitCode;

use clap::Parser;
use examples::failure::{Doing, Result, exit_code};
use examples::pipeline::{Options, run};
use examples::print::print;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    exit_code(work(&Options::parse()))
}

fn work(options: &Options) -> Result<()> {
    let runtime = Runtime::new().doing(|| "cannot start threads".to_owned())?;
    let report = runtime.block_on(run(options))?;
    print(&format!("\n{report}\n"))?;
    if let Some(path) = &options.figures {
        let doing = || format!("cannot write the figures to {}", path.display());
        let figures = serde_json::to_vec_pretty(&report).doing(doing)?;
        std::fs::write(path, figures).doing(doing)?;
    }
    Ok(())
}
