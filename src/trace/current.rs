//! What a task is at: the context in which it calls others. It is a future's own, whichever thread polls it.

use tokio::task::JoinHandle;
use tokio::task::futures::TaskLocalFuture;

use super::Context;

tokio::task_local! {
    static CURRENT: Option<Context>;
}

/// That in which this is called.
pub fn current() -> Option<Context> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Does `work` in that context.
pub fn within<W: Future>(context: Option<Context>, work: W) -> TaskLocalFuture<Option<Context>, W> {
    CURRENT.scope(context, work)
}

/// Does `work` in a task of its own, for whom this one does its own: in the same context.
pub fn spawn<W>(work: W) -> JoinHandle<W::Output>
where
    W: Future + Send + 'static,
    W::Output: Send + 'static,
{
    tokio::spawn(within(current(), work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_context_is_its_futures_own() {
        let (outer, inner) = (Context::root(true), Context::root(false));
        assert_eq!(current(), None);
        within(Some(outer.clone()), async {
            assert_eq!(current().as_ref(), Some(&outer));
            let both = tokio::join!(
                within(Some(inner.clone()), async {
                    tokio::task::yield_now().await;
                    current()
                }),
                async {
                    tokio::task::yield_now().await;
                    current()
                }
            );
            assert_eq!(both, (Some(inner), Some(outer.clone())));
        })
        .await;
        assert_eq!(current(), None);
    }

    #[tokio::test]
    async fn a_task_of_ones_own_goes_on_in_it() {
        let context = Context::root(true);
        let told = within(Some(context.clone()), async { spawn(async { current() }).await.unwrap() });
        assert_eq!(told.await, Some(context));
        assert_eq!(spawn(async { current() }).await.unwrap(), None);
    }
}
