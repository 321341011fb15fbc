//! The simulated disk keeps what was synced, may keep or lose everything else, and does the same for the same seed.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;

use durable_core::Disk;
use durable_core::disk::{DiskFile, OpenMode};
use testkit::disk::{SECTOR, SimDisk};

fn create(disk: &SimDisk, name: &str) -> Box<dyn DiskFile> {
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.open(&Path::new("/d").join(name), OpenMode::CreateNew).unwrap()
}

fn write(file: &mut dyn DiskFile, offset: usize, bytes: &[u8]) {
    file.write_at(offset as u64, &mut [IoSlice::new(bytes)]).unwrap();
}

/// What a crash leaves, over many seeds.
fn outcomes<T: Ord>(run: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..300).map(|seed| run(&SimDisk::new(seed))).collect()
}

#[test]
fn what_was_synced_stays() {
    let left = outcomes(|disk| {
        let mut file = create(disk, "a");
        write(file.as_mut(), 0, &[1; 2000]);
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(file.as_mut(), 4000, &[2; 100]);
        disk.crash();
        disk.bytes("/d/a").unwrap()[..2000].to_vec()
    });
    assert_eq!(left, BTreeSet::from([vec![1; 2000]]));
}

#[test]
fn any_subset_of_unsynced_sectors_stays() {
    let left = outcomes(|disk| {
        let mut file = create(disk, "a");
        write(file.as_mut(), 0, &[0; 3 * SECTOR]);
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(file.as_mut(), 0, &[1; 3 * SECTOR]);
        disk.crash();
        disk.bytes("/d/a").unwrap().chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<_>>()
    });
    assert_eq!(left.len(), 8, "{left:?}");
}

#[test]
fn unsynced_names_come_and_go_in_any_order_and_renames_are_whole() {
    let left = outcomes(|disk| {
        create(disk, "a");
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
        create(disk, "c");
        disk.crash();
        disk.list(Path::new("/d")).unwrap().concat()
    });
    assert_eq!(left, BTreeSet::from(["a", "ac", "b", "bc"].map(str::to_owned)));
}

#[test]
fn a_failed_sync_saves_nothing_and_no_later_one_does() {
    let left = outcomes(|disk| {
        let mut file = create(disk, "a");
        disk.sync_dir(Path::new("/d")).unwrap();
        write(file.as_mut(), 0, &[1; SECTOR]);
        disk.fail_call(0);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        let before = disk.bytes("/d/a").unwrap();
        disk.crash();
        (before[0], disk.bytes("/d/a").unwrap()[0])
    });
    assert_eq!(left, BTreeSet::from([(1, 0), (1, 1)]));
}

#[test]
fn what_was_open_is_dead_after_a_crash_and_locks_are_free() {
    let disk = SimDisk::new(1);
    let mut file = create(&disk, "a");
    let lock = disk.lock(Path::new("/d/lock")).unwrap();
    assert_eq!(disk.lock(Path::new("/d/lock")).unwrap_err().kind(), ErrorKind::WouldBlock);
    disk.crash();
    assert!(file.sync_data().is_err() && file.size().is_err());
    let second = disk.lock(Path::new("/d/lock")).unwrap();
    drop(lock);
    assert_eq!(disk.lock(Path::new("/d/lock")).unwrap_err().kind(), ErrorKind::WouldBlock, "a dead lock frees nothing");
    drop(second);
    disk.lock(Path::new("/d/lock")).unwrap();
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new(1);
    let mut file = create(&disk, "a");
    disk.set_capacity(1000);
    write(file.as_mut(), 0, &[1; 800]);
    let error = file.write_at(800, &mut [IoSlice::new(&[2; 400])]).unwrap_err();
    assert_eq!((error.kind(), file.size().unwrap()), (ErrorKind::StorageFull, 1000));
    write(file.as_mut(), 0, &[3; 1000]);
    assert_eq!(file.set_len(1001).unwrap_err().kind(), ErrorKind::StorageFull);
    file.set_len(10).unwrap();
    write(create(&disk, "b").as_mut(), 0, &[4; 990]);
    assert_eq!(disk.counts().full, 2);
}

#[test]
fn calls_fail_when_told_and_are_counted() {
    let disk = SimDisk::new(1);
    let mut file = create(&disk, "a");
    disk.fail_call(2);
    write(file.as_mut(), 0, b"one");
    write(file.as_mut(), 0, b"two");
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    disk.fail_calls_from(0, ErrorKind::PermissionDenied);
    assert_eq!(file.size().unwrap_err().kind(), ErrorKind::PermissionDenied);
    disk.heal();
    let counts = disk.counts();
    assert_eq!((counts.injected, counts.writes, counts.file_syncs, counts.bytes_written), (2, 2, 2, 6));
    disk.flip("/d/a", 1, 1);
    assert_eq!(disk.bytes("/d/a").unwrap(), b"tvo");
}
