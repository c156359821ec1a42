//! The task that has spans sent: some at a time, or what there is after a while.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::OtlpError;
use super::message::Teller;
use crate::config::TracesConfig;
use crate::error::chain;
use crate::linux::process;
use crate::proto::otlp::trace_service_client::TraceServiceClient;
use crate::trace::{Ended, LOST, SENT, Sink};

/// Spans that wait to be sent: some hundred pods that start at once. OpenTelemetry's own default.
const QUEUE: usize = 2048;
/// Spans that are sent at once, at most: what that makes is far below the 4 MiB that collectors take. Likewise.
const BATCH: usize = 512;
/// How long the first of them waits for others.
const GATHER: Duration = Duration::from_secs(2);
/// How long a collector may take. OTLP's own default.
const ANSWER: Duration = Duration::from_secs(10);
/// The pause before what was not taken is sent again; it doubles each time, up to the second.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// A collector that has not failed for so long works; until then, its failures are one.
const SETTLED: Duration = Duration::from_secs(60);
/// Characters of a collector's reason.
const MAX_WHY: usize = 300;
/// How long, in the end, what is left may take.
const FLUSH: Duration = Duration::from_secs(3);

/// Sends what comes into its sink, until it is ended or dropped.
#[derive(Debug)]
pub struct Exporter {
    sink: Sink,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Exporter {
    /// Begins to send to `endpoint`, as `config` has all else. It is connected to when there is something to send. Within
    /// a tokio runtime.
    ///
    /// # Errors
    /// It is none.
    pub fn start(endpoint: &str, config: &TracesConfig) -> Result<Self, OtlpError> {
        let channel = Endpoint::from_shared(endpoint.to_owned())
            .map_err(|source| OtlpError::Endpoint { endpoint: endpoint.to_owned(), source })?
            .connect_timeout(ANSWER)
            .connect_lazy();
        let (queue, ended) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let sender = Sender {
            endpoint: endpoint.to_owned(),
            client: TraceServiceClient::new(channel),
            teller: Teller { service: config.service_name.clone(), host: process::hostname() },
            ended,
            stop: stop.clone(),
            failed: None,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(sender.run()));
        let sink = Sink { queue, sampled_per_million: config.sampling_rate_per_million };
        Ok(Self { sink, stop, task })
    }

    /// Where it takes spans from.
    pub fn sink(&self) -> Sink {
        self.sink.clone()
    }

    /// Has sent what there is, or given up after some seconds.
    pub async fn end(self) {
        self.stop.cancel();
        if timeout(FLUSH, self.task).await.is_err() {
            tracing::warn!("spans are left that the collector has not taken");
        }
    }
}

struct Sender {
    endpoint: String,
    client: TraceServiceClient<Channel>,
    teller: Teller,
    ended: mpsc::Receiver<Ended>,
    stop: CancellationToken,
    /// When the collector has failed last, for as long as that is news.
    failed: Option<Instant>,
}

impl Sender {
    /// Until it is to end, and nothing is left.
    async fn run(mut self) {
        let mut batch = Vec::new();
        while self.gather(&mut batch).await {
            self.send(&batch).await;
            batch.clear();
        }
    }

    /// Fills the batch; `false` once there is nothing more to come.
    async fn gather(&mut self, batch: &mut Vec<Ended>) -> bool {
        let stop = self.stop.clone();
        let _ = stop.run_until_cancelled(self.ended.recv_many(batch, BATCH)).await;
        // The queue is never closed: the exporter that owns this task has an end of it.
        let others = async {
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                self.ended.recv_many(batch, room).await;
            }
        };
        let _ = stop.run_until_cancelled(timeout(GATHER, others)).await;
        // Once that has come, nobody is waited for.
        while batch.len() < BATCH
            && let Ok(ended) = self.ended.try_recv()
        {
            batch.push(ended);
        }
        !batch.is_empty()
    }

    /// Sends the batch, again and again where that may help. In the end, once is enough.
    async fn send(&mut self, batch: &[Ended]) {
        let request = self.teller.request(batch);
        let mut pause = AGAIN[0];
        loop {
            let answer = timeout(ANSWER, self.client.export(request.clone())).await;
            let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("it does not answer")));
            let refused = match answer {
                Ok(answer) => {
                    let partly = answer.into_inner().partial_success.unwrap_or_default();
                    let rejected = usize::try_from(partly.rejected_spans).unwrap_or(0).min(batch.len());
                    self.count(batch.len() - rejected, rejected);
                    match rejected {
                        0 => self.works(),
                        _ => self.fails(&partly.error_message),
                    }
                    return;
                }
                Err(refused) => refused,
            };
            self.fails(&reason(&refused));
            if !is_worth_another(refused.code()) || self.stop.is_cancelled() {
                return self.count(0, batch.len());
            }
            let _ = self.stop.clone().run_until_cancelled(sleep(pause)).await;
            pause = AGAIN[1].min(pause * 2);
        }
    }

    fn count(&self, sent: usize, lost: usize) {
        SENT.add(sent as u64);
        LOST.add(lost as u64);
    }

    /// Says so once, however long it lasts.
    fn fails(&mut self, why: &str) {
        if self.failed.replace(Instant::now()).is_none() {
            let why: String = why.chars().take(MAX_WHY).collect();
            tracing::warn!(
                endpoint = self.endpoint,
                why,
                "the collector does not take spans: some may be lost"
            );
        }
    }

    fn works(&mut self) {
        if self.failed.take_if(|failed| failed.elapsed() > SETTLED).is_some() {
            tracing::info!(endpoint = self.endpoint, "the collector takes spans again");
        }
    }
}

/// What a collector says, or why it cannot.
fn reason(refused: &Status) -> String {
    match std::error::Error::source(refused) {
        Some(source) => chain(source),
        None => refused.message().to_owned(),
    }
}

/// By OTLP's own list of what is no fault of the request (its specification, "Failures").
fn is_worth_another(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    )
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response};

    use super::*;
    use crate::proto::otlp;
    use crate::proto::otlp::trace_service_server::{TraceService, TraceServiceServer};
    use crate::trace::recorded::ended;

    /// A collector that refuses, as it is told to, before it takes anything.
    #[derive(Clone, Default)]
    struct Collector {
        refusals: Arc<Mutex<VecDeque<Status>>>,
        /// How many spans came each time.
        taken: Arc<Mutex<Vec<usize>>>,
    }

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            request: Request<otlp::ExportTraceServiceRequest>,
        ) -> Result<Response<otlp::ExportTraceServiceResponse>, Status> {
            if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
                return Err(refusal);
            }
            let came = request.into_inner().resource_spans.remove(0).scope_spans.remove(0).spans.len();
            self.taken.lock().unwrap().push(came);
            Ok(Response::new(Default::default()))
        }
    }

    impl Collector {
        async fn refusing(refusals: impl IntoIterator<Item = Status>) -> (Self, Exporter) {
            let collector = Self::default();
            collector.refusals.lock().unwrap().extend(refusals);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            let service = TraceServiceServer::new(collector.clone());
            let serving = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
            (collector, Exporter::start(&endpoint, &TracesConfig::default()).unwrap())
        }

        fn taken(&self) -> Vec<usize> {
            self.taken.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn all_there_is_is_sent_at_the_end() {
        let (collector, exporter) = Collector::refusing([]).await;
        for _ in 0..=BATCH {
            exporter.sink().queue.send(ended()).await.unwrap();
        }
        exporter.end().await;
        assert_eq!(collector.taken(), [BATCH, 1]);
    }

    #[tokio::test]
    async fn what_is_not_taken_for_now_comes_again() {
        let (collector, exporter) = Collector::refusing([Status::unavailable("later")]).await;
        exporter.sink().queue.send(ended()).await.unwrap();
        while collector.taken().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(collector.taken(), [1]);
        assert!(collector.refusals.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_refused_is_lost_and_what_comes_next_is_not() {
        let refusals = [Status::invalid_argument("no"), Status::unavailable("not at the end either")];
        for (refusal, batches) in refusals.into_iter().zip([2, 1]) {
            let (collector, exporter) = Collector::refusing([refusal]).await;
            let lost = LOST.value();
            for _ in 0..(batches - 1) * BATCH + 1 {
                exporter.sink().queue.send(ended()).await.unwrap();
            }
            exporter.end().await;
            assert_eq!(collector.taken().len(), batches - 1);
            assert!(LOST.value() > lost);
        }
    }
}
