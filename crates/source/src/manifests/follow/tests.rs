use super::*;

#[test]
fn what_stands_beside_a_directory_does_not_matter() {
    let dir = tempfile::TempDir::new().unwrap();
    let root = dir.path().join("m");
    std::fs::create_dir(&root).unwrap();
    let neighbours = Neighbours::of(&root);
    assert!(neighbours.contain(&dir.path().join("other")));
    assert!(!neighbours.contain(&root), "it may be replaced");
    assert!(!neighbours.contain(&root.join("a.yaml")));
    assert!(!neighbours.contain(Path::new("/elsewhere/target")));
    // Beside a single file there may be the links that it is reached by.
    let file = root.join("a.yaml");
    std::fs::write(&file, "").unwrap();
    assert!(!Neighbours::of(&file).contain(&root.join("..data")));
    // The working directory has no name: everything in it matters.
    assert!(!Neighbours::of(Path::new(".")).contain(Path::new("./a.yaml")));
}

#[test]
fn reading_is_no_change() {
    assert!(!is_change(EventKind::Access(AccessKind::Open(AccessMode::Read))));
    assert!(!is_change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
    assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
    assert!(is_change(EventKind::Remove(notify::event::RemoveKind::File)));
    assert!(is_change(EventKind::Any));
}
