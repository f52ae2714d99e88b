use super::{CURRENT, blocking, named};

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn the_innermost_name_counts_and_only_while_it_runs() {
    run(async {
        named("outer", async {
            assert_eq!(CURRENT.get(), "outer");
            named("inner", async {
                tokio::task::yield_now().await;
                assert_eq!(CURRENT.get(), "inner");
            })
            .await;
            assert_eq!(CURRENT.get(), "outer");
        })
        .await;
        assert_eq!(CURRENT.get(), "");
        let (first, second) = (named("first", yields()), named("second", yields()));
        assert_eq!(tokio::join!(first, second), ("first", "second"));
    });
}

/// The name of the task after another one has had its turn.
async fn yields() -> &'static str {
    tokio::task::yield_now().await;
    CURRENT.get()
}

#[test]
fn what_blocks_has_a_name_too() {
    assert_eq!(run(blocking("reading", || CURRENT.get())), "reading");
}

#[test]
fn a_panic_where_it_may_block_is_passed_on() {
    let result = std::panic::catch_unwind(|| run(blocking("reading", || panic!("for the test"))));
    assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"for the test"));
}
