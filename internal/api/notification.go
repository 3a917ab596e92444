package api

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type (
	notificationsAnswer = answer[rest.List[rest.Notification]]
	dismissedAnswer     = answer[rest.Data[rest.Dismissed]]
)

func (s *server) notificationRoutes() {
	const tag = "Notifications"
	register(s, route{method: http.MethodGet, path: productPath + "/notifications", id: "list-notifications", tag: tag, summary: "What needs people's eyes, what happened last first"},
		func(c *call, in *struct {
			InProduct
			Paging
		}) (*notificationsAnswer, error) {
			return s.notifications(c, in.Product, in.Paging)
		})
	register(s, route{method: http.MethodPost, path: productPath + "/notifications/dismiss", id: "dismiss-notifications", tag: tag, status: http.StatusOK, summary: "Remove notifications of a product"},
		func(c *call, in *struct {
			InProduct
			Body body[rest.Dismissal]
		}) (*dismissedAnswer, error) {
			return s.dismiss(c, in.Product, in.Body)
		})
	register(s, route{method: http.MethodGet, path: orgPath + "/notifications", id: "list-org-notifications", tag: tag, summary: "Notifications of the org that are about no product"},
		func(c *call, in *struct {
			InOrg
			Paging
		}) (*notificationsAnswer, error) {
			return s.notifications(c, "", in.Paging)
		})
	register(s, route{method: http.MethodPost, path: orgPath + "/notifications/dismiss", id: "dismiss-org-notifications", tag: tag, status: http.StatusOK, summary: "Remove notifications that are about no product"},
		func(c *call, in *struct {
			InOrg
			Body body[rest.Dismissal]
		}) (*dismissedAnswer, error) {
			return s.dismiss(c, "", in.Body)
		})
}

func (s *server) notifications(c *call, product string, p Paging) (*notificationsAnswer, error) {
	list, next, err := s.control.ListNotifications(c.ctx, c.scope, product, p.page())
	return many(list, next, err, func(n fleet.Notification) rest.Notification {
		return rest.Notification{
			UUID: n.UUID, Kind: string(n.Kind), Device: n.Device, Title: n.Title, Message: n.Message, Count: n.Count, CreatedAt: n.CreatedAt, LastAt: n.LastAt,
		}
	})
}

func (s *server) dismiss(c *call, product string, in body[rest.Dismissal]) (*dismissedAnswer, error) {
	var uuids []string
	if in.has("notifications") {
		uuids = append([]string{}, in.value.Notifications...)
	}
	n, err := s.control.DismissNotifications(c.ctx, c.scope, product, uuids)
	return one(n, err, func(n int) rest.Dismissed { return rest.Dismissed{Count: n} })
}
