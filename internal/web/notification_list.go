package web

import (
	"net/http"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
)

func (s *site) notificationList(r *request) (view, error) {
	list, next, err := s.control.ListNotifications(r.ctx, r.scope, r.product(), fleet.Page{Cursor: r.URL.Query().Get("cursor")})
	return view{title: "Notifications", tab: "Notifications", crumbs: here(r), parts: []part{
		{id: "notifications", body: notificationPage(r, list, next), live: true},
	}}, err
}

// notificationDismiss dismisses one, or all when the form names none.
func (s *site) notificationDismiss(w http.ResponseWriter, r *request) {
	err := form(w, r.Request)
	to := productPath(r.org.Name, r.product()) + notificationsTab
	if err == nil {
		var uuids []string
		if id := r.PostFormValue("uuid"); id != "" {
			uuids = []string{id}
		}
		_, err = s.control.DismissNotifications(r.ctx, r.scope, r.product(), uuids)
	}
	if err != nil {
		s.again(w, r, err, "", to, s.notificationList)
		return
	}
	back(w, r, to, "dismissed")
}

func kindText(k fleet.NotificationKind) string { return strings.ReplaceAll(string(k), "_", " ") }
