//! What both adapters share. The two client crates have the same API but no types in common, so this is a macro over the
//! crate's name. The invoking module provides what differs between the protocol versions:
//!
//! - `set_limits(&mut MqttOptions, &ConnectOptions)`: timeouts, packet sizes and windows,
//! - `set_session(&mut MqttOptions, &ConnectOptions, expiry)`: the persistent session,
//! - `last_will(OutboundMessage, QoS) -> LastWill`,
//! - `build(MqttOptions, capacity) -> (AsyncClient, EventLoop)`,
//! - `with_properties(PublishOptions, &OutboundMessage) -> PublishOptions`,
//! - `publish_outcome(Result<PublishResult, PublishNoticeError>) -> PublishOutcome`,
//! - `subscribe_filter(String, RetainHandling) -> SubscribeFilterInput`,
//! - `subscribe_outcome(Result<SubAck, SubscribeNoticeError>) -> SubscribeOutcome`,
//! - `limits(&ConnAck) -> BrokerLimits` and `response(&Publish) -> (Option<String>, Option<Bytes>)`: response topic and correlation,
//! - `disconnect(&ConnectionError, &Wording) -> Disconnect`: why a connection ended.

macro_rules! adapter {
    ($mqtt:ident) => {
        /// Opens a connection. It moves only while its event loop is polled.
        pub(crate) fn connect(options: &ConnectOptions) -> (Box<dyn Client>, Box<dyn EventLoop>) {
            let (client, events) = build(mqtt_options(options), options.queue_capacity());
            let event_loop = MqttEventLoop {
                client: client.clone(),
                events,
                is_connected: false,
                likely_causes: likely_causes(options),
                wording: options.wording,
            };
            (Box::new(MqttClient(client)), Box::new(event_loop))
        }

        fn mqtt_options(options: &ConnectOptions) -> $mqtt::MqttOptions {
            let broker = (options.host.as_str(), options.port);
            let mut mqtt = $mqtt::MqttOptions::new(options.client_id.clone(), broker);
            mqtt.set_keep_alive(options.keep_alive_s())
                .set_ack_mode($mqtt::AckMode::Manual);
            match options.session {
                SessionMode::Persistent { expiry } => set_session(&mut mqtt, options, expiry),
                SessionMode::Clean => {
                    mqtt.set_session_mode($mqtt::SessionMode::Clean);
                }
            }
            // With TLS: messages that are too large are cut between TLS and the client.
            let target = stream::Target::new(options);
            mqtt.set_socket_connector(move |address, network| stream::connect(address, network, target.clone()));
            if let Some(login) = &options.login {
                mqtt.set_credentials(login.user.expose().to_owned(), login.password.expose().to_owned());
            }
            if let Some(will) = options.will.clone() {
                let qos = qos(will.qos);
                mqtt.set_last_will(last_will(will, qos));
            }
            set_limits(&mut mqtt, options);
            mqtt
        }

        fn qos(qos: Qos) -> $mqtt::QoS {
            match qos {
                Qos::AtMostOnce => $mqtt::QoS::AtMostOnce,
                Qos::AtLeastOnce => $mqtt::QoS::AtLeastOnce,
            }
        }

        /// A session store that always loads this session, which has nothing in flight. That is true, because each connection
        /// starts with a new client, and whatever was not acknowledged is the caller's to send again. The client needs a stored
        /// session to resume the broker's, in which messages are queued.
        #[derive(Debug)]
        struct EmptySessionStore($mqtt::PersistedSession);

        impl $mqtt::SessionStore for EmptySessionStore {
            fn load<'a>(
                &'a self,
                _: &'a $mqtt::SessionStoreKey,
            ) -> BoxFuture<'a, Result<Option<$mqtt::PersistedSession>, $mqtt::SessionStoreError>> {
                Box::pin(async { Ok(Some(self.0.clone())) })
            }

            fn save<'a>(
                &'a self,
                _: &'a $mqtt::SessionStoreKey,
                _: &'a $mqtt::PersistedSession,
            ) -> BoxFuture<'a, Result<(), $mqtt::SessionStoreError>> {
                Box::pin(async { Ok(()) })
            }

            fn clear<'a>(
                &'a self,
                _: &'a $mqtt::SessionStoreKey,
            ) -> BoxFuture<'a, Result<(), $mqtt::SessionStoreError>> {
                Box::pin(async { Ok(()) })
            }
        }

        struct MqttClient($mqtt::AsyncClient);

        impl Client for MqttClient {
            fn send(&self, message: OutboundMessage) -> Result<BoxFuture<'static, PublishOutcome>, EnqueueError> {
                let options = $mqtt::PublishOptions::new(qos(message.qos)).retain(message.is_retained);
                let options = with_properties(options, &message);
                let notice = self
                    .0
                    .try_publish_tracked(message.topic, message.payload, options)
                    .map_err(|e| enqueue_error(&e))?;
                Ok(notice.wait_async().map(publish_outcome).boxed())
            }

            fn subscribe(
                &self,
                filters: Vec<String>,
                retain: RetainHandling,
            ) -> Result<BoxFuture<'static, SubscribeOutcome>, EnqueueError> {
                let filters = filters.into_iter().map(|filter| subscribe_filter(filter, retain));
                let notice = self
                    .0
                    .try_subscribe_many_tracked(filters)
                    .map_err(|e| enqueue_error(&e))?;
                let outcome = notice.wait_async().map(subscribe_outcome);
                Ok(outcome.boxed())
            }

            fn unsubscribe(&self, filter: String) -> Result<(), EnqueueError> {
                self.0.try_unsubscribe(filter).map_err(|e| enqueue_error(&e))
            }

            fn disconnect(&self) {
                // An error means that the connection has already ended.
                let _ = self.0.try_disconnect();
            }
        }

        fn enqueue_error(error: &$mqtt::ClientError) -> EnqueueError {
            match error {
                $mqtt::ClientError::InvalidRequest(_) => EnqueueError::InvalidTopic,
                _ => EnqueueError::QueueFull,
            }
        }

        struct MqttEventLoop {
            client: $mqtt::AsyncClient,
            events: $mqtt::EventLoop,
            /// CONNACK was received.
            is_connected: bool,
            /// Why the broker may have closed the connection before.
            likely_causes: String,
            wording: &'static Wording,
        }

        impl EventLoop for MqttEventLoop {
            fn next(&mut self) -> BoxFuture<'_, Event> {
                Box::pin(async {
                    loop {
                        match self.events.poll().await {
                            Ok($mqtt::Event::Incoming($mqtt::Incoming::ConnAck(ack))) => {
                                self.is_connected = true;
                                return Event::Connected(ConnAck {
                                    session_present: ack.session_present,
                                    limits: limits(&ack),
                                });
                            }
                            Ok($mqtt::Event::Incoming($mqtt::Incoming::Publish(publish))) => {
                                return Event::Message(inbound_message(&self.client, publish));
                            }
                            Ok(_) => {}
                            Err(e) => {
                                let disconnect = disconnect(&e, self.wording);
                                return Event::Disconnected(match self.is_connected {
                                    true => disconnect,
                                    false => disconnect.before_connack(&self.likely_causes),
                                });
                            }
                        }
                    }
                })
            }
        }

        fn inbound_message(client: &$mqtt::AsyncClient, publish: $mqtt::Publish) -> InboundMessage {
            let (client, ack) = (client.clone(), client.prepare_ack(&publish));
            let (response_topic, correlation) = response(&publish);
            InboundMessage {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                is_retained: publish.retain,
                is_qos0: publish.qos == $mqtt::QoS::AtMostOnce,
                response_topic,
                correlation,
                payload: publish.payload,
                ack: AckHandle::new(move || {
                    if let Some(ack) = ack {
                        let _ = client.try_manual_ack(ack);
                    }
                }),
            }
        }
    };
}

pub(crate) use adapter;
